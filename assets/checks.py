"""Build the asset checks: laws that the data must obey, and measures that may be unusual.

Each check is a SELECT in `sql/checks/`. A law returns the rows that break it. The check only warns
if all of them are behind (`is_behind`: something upstream was rewritten, and their shard was not
run again). A measure returns numbers, with `is_warning` where one is unusual.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg
import duckdb
import polars as pl

from assets.marts import FUNNEL
from assets.metadata.tables import SAMPLE_ROWS, Metadata, as_markdown
from assets.resources import StoreResource
from persona_pipeline.dedup.resolve import at_or_above
from persona_pipeline.dedup.rules import FUZZY_FROM, TOLERANCE
from persona_pipeline.hub.state import outdated_shards, undecided_shards
from persona_pipeline.project import Project
from persona_pipeline.sql import fetch, read_sql

DOCUMENTS, CALLS = ["corpus", "documents"], ["llm", "calls"]
EXTRACTED, RELATED = ["personas", "extracted"], ["personas", "related"]
CANDIDATES, REMOVED = ["personas", "candidates"], ["personas", "duplicates"]
HUB, RECORDS = ["personas", "hub"], ["synthetic", "duplicates"]
"""Checks of records belong to the asset that follows all domains."""
COST, LINEAGE = ["marts", "cost"], ["marts", "lineage"]
STEPS = {
    "persona_checks": [DOCUMENTS, EXTRACTED, RELATED, CANDIDATES, REMOVED, HUB],
    "record_checks": [RECORDS, CALLS],
    "funnel_checks": [FUNNEL],
    "mart_checks": [COST, LINEAGE],
}
"""Assets that are checked in one step, by the step's name. A step costs a run 0.3 s."""
MOST_NUMBERS: Final = 40
"""Most numbers of a measure that are plotted, since Dagster shows a plot for each."""

FIXED: Final = {
    "min_count": 20,  # rows from which on a share is meaningful
    "far": 0.5,  # half of a shard's documents would have to change their language
    # The quality rules reject personas below 6 and above 80 words. The median is 13 words, and 90 %
    # have 6 to 20 distinct ones. If one in twenty has over 60, the model tells stories.
    "few_words": 6,
    "many_words": 60,
    "few_record_words": 5,
    "most_unusual": 0.05,
    "sampled": 1000,  # records of a domain whose words are counted; 0.05 CPU-seconds at 100 words
}
Parameter = Callable[[Project, duckdb.DuckDBPyConnection], object]


def _threshold(layer: str) -> Parameter:
    return lambda project, _: at_or_above(project.dedup_plan.thresholds)[layer]


PARAMETERS: Mapping[str, Parameter] = {
    "jaccard": _threshold("jaccard"),
    "fuzzy": _threshold("fuzzy"),
    "cosine": _threshold("cosine"),
    "fuzzy_from": lambda _, __: FUZZY_FROM - TOLERANCE,
    "outdated": lambda project, connection: outdated_shards(connection, project.dedup_plan),
    "undecided": lambda project, connection: undecided_shards(connection, project.dedup_plan),
    "has_journals": lambda project, _: any(project.settings.journal_dir.glob("*.jsonl")),
    "language": lambda project, _: project.settings.language,
    "most_rejected": lambda project, _: project.settings.warn_rejected_share,
    "most_growth": lambda project, _: project.settings.warn_cost_growth,
}


@dataclass(frozen=True, slots=True)
class Check:
    """One statement of `sql/checks/`, and the meaning of its rows."""

    name: str
    asset: Sequence[str]
    description: str
    is_blocking: bool = False
    is_warning: bool = False
    """Whether the check only warns, even if it fails."""
    numbers: Sequence[str] = ()
    """Columns that are plotted over time. A check with numbers is a measure."""


LAWS = [
    Check("document_ids_are_unique", DOCUMENTS, "No document is in two shards, or twice in one."),
    Check("personas_have_documents", EXTRACTED, "Every answer has its document in its shard."),
    Check(
        "related_personas_have_parents", RELATED, "Every answer has its parent and root persona."
    ),
    Check("persona_ids_are_unique", CANDIDATES, "No persona is a candidate twice."),
    Check("candidates_are_personas", CANDIDATES, "Every candidate is the answer of a stage."),
    Check(
        "removed_personas_have_keepers",
        REMOVED,
        "Every removed persona has a keeper that is a candidate and was not removed.",
    ),
    Check("hub_ids_are_unique", HUB, "No persona is in the hub twice."),
    Check(
        "hub_is_made_of_candidates",
        HUB,
        "Every persona in the hub is a candidate that was not removed.",
    ),
    Check(
        "no_kept_pair",
        HUB,
        "No two personas of the hub are at or above a threshold. The check blocks: the run would "
        "pay for records of duplicates.",
        is_blocking=True,
    ),
    Check("record_ids_are_unique", RECORDS, "No record is in its domain twice."),
    Check("records_have_personas", RECORDS, "Every record has its persona in the hub."),
    Check(
        "removed_records_have_keepers",
        RECORDS,
        "Every removed record has a keeper that was not removed.",
    ),
    Check("call_keys_are_unique", CALLS, "No call was paid twice."),
    Check("rows_have_calls", CALLS, "Every persona and record has the usable answer it is from."),
    Check(
        "no_row_is_lost",
        FUNNEL,
        "In every stage and shard, rows in = kept + rejected + duplicates + failed.",
        is_blocking=True,
    ),
    Check(
        "no_stage_is_behind",
        FUNNEL,
        "No stage's input has changed since it ran. Run the listed shards again.",
        is_warning=True,
    ),
    Check("every_record_has_a_page", LINEAGE, "Every synthetic record leads back to a URL."),
    Check(
        "shards_have_like_languages",
        DOCUMENTS,
        "A shard's documents are in the same languages as the rest of its source.",
        is_warning=True,
    ),
]
MEASURES = [
    Check(
        "language_mix",
        DOCUMENTS,
        "The languages of documents, and of the documents that the hub's personas come from. Warns "
        "if personas must be in another language (setting language).",
        numbers=["language_ratio"],
    ),
    Check(
        "persona_lengths",
        HUB,
        "The number of words of personas. Warns if over 5 % have fewer than 6, or more than 60.",
        numbers=["median_words", "p95_words", "unusual_ratio"],
    ),
    Check(
        "record_lengths",
        RECORDS,
        "The number of words of records, per domain. Warns if over 5 % have fewer than 5.",
        numbers=["median_words", "p95_words", "unusual_ratio"],
    ),
    Check(
        "rejected_share",
        FUNNEL,
        "The share of a stage's rows that each reason rejects. Warns above warn_rejected_share.",
        numbers=["rejected_ratio"],
    ),
    Check(
        "cost_growth",
        COST,
        "The cost of a record in the last run that bought some, compared with the median of the "
        "runs before. Warns above warn_cost_growth.",
        numbers=["usd_per_record", "growth_ratio"],
    ),
]


def build_checks(project: Project) -> Sequence[dg.AssetChecksDefinition]:
    """Build all checks, in a few steps."""
    return [
        _build_step(name, [check for check in (*LAWS, *MEASURES) if check.asset in assets], project)
        for name, assets in STEPS.items()
    ]


def _build_step(name: str, checks: Sequence[Check], project: Project) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=name,
        specs=[
            dg.AssetCheckSpec(
                check.name,
                asset=dg.AssetKey(check.asset),
                description=f"{check.description} SQL: sql/checks/{check.name}.sql",
                blocking=check.is_blocking,
            )
            for check in checks
        ],
        can_subset=True,
    )
    def step(
        context: dg.AssetCheckExecutionContext, duckdb: StoreResource
    ) -> Iterator[dg.AssetCheckResult]:
        duckdb.store.migrate()
        chosen = {key.name for key in context.selected_asset_check_keys}
        # One connection, so that no commit falls between the parameters and the rows.
        with duckdb.store.connect(read_only=True) as connection:
            results = [
                _evaluate(check, connection, project) for check in checks if check.name in chosen
            ]
        yield from results

    return step


def _evaluate(
    check: Check, connection: duckdb.DuckDBPyConnection, project: Project
) -> dg.AssetCheckResult:
    sql = read_sql(f"checks/{check.name}")
    named = set(re.findall(r"\$([a-z_]+)", sql))
    known = {name: value for name, value in FIXED.items() if name in named}
    computed = {name: PARAMETERS[name](project, connection) for name in named - known.keys()}
    rows = fetch(connection, sql, {**known, **computed})
    passed, severity, metadata = _measured(check, rows) if check.numbers else _judged(check, rows)
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey(check.asset),
        check_name=check.name,
        passed=passed,
        severity=severity,
        metadata=metadata,
    )


def _judged(check: Check, rows: pl.DataFrame) -> tuple[bool, dg.AssetCheckSeverity, Metadata]:
    """Judge a law, which every row breaks; return whether it holds, the severity, the metadata."""
    behind = int(rows["is_behind"].sum()) if "is_behind" in rows.columns else 0
    is_warning = check.is_warning or (behind > 0 and behind == len(rows))
    severity = dg.AssetCheckSeverity.WARN if is_warning else dg.AssetCheckSeverity.ERROR
    metadata: Metadata = {
        "violations": len(rows),
        "first rows": as_markdown(rows.head(SAMPLE_ROWS)),
    }
    if "is_behind" in rows.columns:
        metadata["of them behind"] = behind
    return rows.is_empty(), severity, metadata


def _measured(check: Check, rows: pl.DataFrame) -> tuple[bool, dg.AssetCheckSeverity, Metadata]:
    """Report a measure, with unusual rows first in the table."""
    ordered = rows.sort("is_warning", descending=True, maintain_order=True)
    warnings = int(ordered["is_warning"].sum())
    named = [name for name, kind in rows.schema.items() if kind == pl.String]
    numbers = {
        f"{' '.join(str(row[name]) for name in named)}: {column}": row[column]
        for row in ordered.head(MOST_NUMBERS).iter_rows(named=True)
        for column in check.numbers
        if row[column] is not None
    }
    table = as_markdown(ordered.head(max(SAMPLE_ROWS, warnings)))
    metadata = {"violations": warnings, "first rows": table, **numbers}
    return warnings == 0, dg.AssetCheckSeverity.WARN, metadata
