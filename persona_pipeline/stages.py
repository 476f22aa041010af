"""What every stage hands to the store, and what the stages that buy answers share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from pydantic import JsonValue

from persona_pipeline.llm.answers import parse_answer
from persona_pipeline.llm.calls import Answer


@dataclass(frozen=True, slots=True)
class FunnelCounts:
    """What a stage read and what was asked of it.

    `input_count`: rows read from upstream. `rows_in`: rows asked for, each of which ends as kept,
    rejected, duplicate or failed. `source`: the selection that was read, None for all of upstream.
    """

    input_count: int
    rows_in: int
    source: str | None = None


IDS = ("document_id", "persona_id", "record_id")
"""Columns that say what a row is: what comes after depends on nothing else. Another keeper of a
duplicate leaves the hub as it is."""


@dataclass(frozen=True, slots=True)
class StageRows:
    """What one stage of one shard leaves behind; replaces what its last run left.

    `tables`: rows per table, without the common columns. `scope`: in tables that several stages
    share, the column and value of this stage's rows. `funnel`: the counts of `marts.funnel`, None
    for a step that turns nothing away.
    """

    shard: str
    stage: str
    tables: Mapping[str, pl.DataFrame]
    funnel: FunnelCounts | None = None
    scope: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def version(self) -> str:
        """Of what the stage made, in any order: compared with stored versions only.

        Polars may hash otherwise in another release; rows that are written again then count as new.
        """
        total = 0
        for table, rows in sorted(self.tables.items()):
            ids = [name for name in IDS if name in rows.columns]
            if ids and not table.endswith(".rejected"):
                total += int(rows.select(pl.struct(ids).hash(0).cast(pl.UInt64)).sum().item() or 0)
        return f"{total % 2**64:016x}"


def frame(rows: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]) -> pl.DataFrame:
    """The rows as a frame with these columns, also when there are none."""
    return pl.DataFrame(list(rows), schema=dict(schema), orient="row")


def failure_reason(call: Answer) -> tuple[str, str]:
    """(reason, detail) of a call that gave no usable answer; fits both lists of reasons."""
    reason = "invalid_answer" if call.status == "invalid" else "call_failed"
    return reason, call.error or ""


def answer_of(call: Answer, schema: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
    """The parsed answer of a usable call, else None."""
    if call.status != "ok" or call.response is None:
        return None
    return parse_answer(call.response, schema)


def count_reasons(rejected: pl.DataFrame) -> Sequence[tuple[str, int]]:
    """How many rows per reason, the most frequent first."""
    if rejected.is_empty():
        return []
    counts = rejected.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return [(reason, count) for reason, count in counts.iter_rows()]
