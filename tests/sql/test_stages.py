"""The table of stages says what the funnel counts: the same tables, and the same stages before."""

from collections.abc import Mapping

import pytest
import sqlglot
from sqlglot import exp

from persona_pipeline.sql import read_sql
from persona_pipeline.stage_names import (
    CORPUS,
    STAGES,
    Stage,
    funnel_stages,
    stages_before,
    stages_of,
)

DOMAIN = stages_of(["math"])[-1]


def part_of_funnel(name: str) -> Mapping[str, set[str]]:
    """The tables that a CTE of the funnel reads, by the stage whose rows it counts."""
    query = sqlglot.parse_one(read_sql("marts/funnel"), dialect="duckdb")
    [cte] = [cte for cte in query.find_all(exp.CTE) if cte.alias == name]
    tables: dict[str, set[str]] = {}
    for select in selects_of(cte.this):
        stages = [str(text.this) for text in select.expressions[1].find_all(exp.Literal)]
        if not stages:  # the domains: named by runs.stages
            continue
        tables[stages[0]] = {f"{table.db}.{table.name}" for table in select.find_all(exp.Table)}
    return tables


def selects_of(query: exp.Expr) -> list[exp.Expr]:
    """The parts of a UNION ALL, in order."""
    if not isinstance(query, exp.Union):
        return [query]
    return [*selects_of(query.left), *selects_of(query.right)]


def test_the_funnel_counts_the_rows_of_every_stage_in_its_table() -> None:
    kept = part_of_funnel("kept")
    assert list(kept)[:-1] == [stage.name for stage in STAGES]
    for stage in STAGES:
        assert kept[stage.name] == {stage.table}
    assert kept["synthetic."] == {"synthetic.records"}  # all domains: without their duplicates


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_funnel_compares_a_stage_with_the_tables_of_the_stages_it_reads(stage: Stage) -> None:
    tables = {each.name: each.table for each in STAGES}
    expected = {tables[name] for name in stage.reads} or {"corpus.shards"}
    assert part_of_funnel("upstream")[stage.name] == expected


def test_a_stage_reads_only_stages_that_stand_before_it() -> None:
    stages = stages_of(["math", "tool"])
    for number, stage in enumerate(stages):
        assert set(stage.reads) <= {earlier.name for earlier in stages[:number]}
        assert stages_before(stage.name) == sorted(stage.reads)
    assert funnel_stages(["math", "tool"]) == [stage.name for stage in stages]


def test_a_domain_reads_what_makes_the_hub_and_an_unknown_stage_nothing() -> None:
    assert stages_before("synthetic.math") == ["deduplication", "quality_rules"]
    assert DOMAIN.table == DOMAIN.name == "synthetic.math"
    assert stages_before(CORPUS) == []
    assert stages_before("no_such_stage") == []
