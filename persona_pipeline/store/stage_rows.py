"""What every stage hands to the store, and what the stages that buy answers share."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from persona_pipeline.sql import read_sql
from persona_pipeline.stage_names import stages_before


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


OUTDATED = "written-meanwhile"
"""Stands for an input that changed while a stage worked: no stage has this version."""
FUNNEL = {
    "input_count": pl.Int64,
    "rows_in": pl.Int64,
    "source": pl.String,
    "input_version": pl.String,
    "output_version": pl.String,
}


def replace_stage(
    connection: duckdb.DuckDBPyConnection, rows: StageRows, run_id: str, read_at: datetime | None
) -> None:
    for table, frame in rows.tables.items():
        column, value = rows.scope.get(table, (None, None))
        only = f" and {column} = $value" if column else ""
        parameters = {"shard": rows.shard} | ({"value": value} if column else {})
        connection.execute(f"delete from {table} where shard = $shard{only}", parameters)
        insert_rows(connection, table, frame, {"shard": rows.shard}, run_id)
    if rows.funnel:
        labels = {"shard": rows.shard, "stage": rows.stage}
        connection.execute(
            "delete from runs.stages where shard = $shard and stage = $stage", labels
        )
        versions = {
            "input_version": _input_version(connection, rows, read_at),
            "output_version": rows.version(),
        }
        counts = pl.DataFrame([{**asdict(rows.funnel), **versions}], schema=FUNNEL)
        insert_rows(connection, "runs.stages", counts, labels, run_id)


def _input_version(
    connection: duckdb.DuckDBPyConnection, rows: StageRows, read_at: datetime | None
) -> str | None:
    """What the stages before made of this shard, as stage=version; None: nothing is known."""
    parameters = {"shard": rows.shard, "stages": stages_before(rows.stage)}
    outputs = connection.execute(read_sql("store/outputs"), parameters).fetchall()
    if any(read_at and written > read_at for _, _, written in outputs):
        return OUTDATED
    known = [f"{stage}={version}" for stage, version, _ in outputs if version is not None]
    return " ".join(known) or None


def insert_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    frame: pl.DataFrame,
    labels: Mapping[str, str],
    run_id: str,
) -> None:
    """Add the rows of the frame by the names of its columns, with labels, run and time."""
    constants = {**labels, "run_id": run_id}
    listing = ", ".join(f"${name} as {name}" for name in constants)
    connection.register("rows_to_insert", frame.drop(*constants, strict=False))
    connection.execute(
        f"insert into {table} by name "
        f"select *, {listing}, now() at time zone 'UTC' as created_at from rows_to_insert",
        constants,
    )
    connection.unregister("rows_to_insert")
