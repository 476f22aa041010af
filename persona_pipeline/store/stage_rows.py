"""State what a stage of a shard leaves behind, and write it in place of what it left before."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

import duckdb
import polars as pl

from persona_pipeline.sql import content_query
from persona_pipeline.stage_names import stages_before

IDS = ("document_id", "persona_id", "record_id")
"""Columns that identify a row. Stages downstream depend on nothing else of it: another keeper of a
duplicate, for example, leaves the hub as it is."""
STAYING = (
    "personas.candidates",
    "personas.embeddings",
    "personas.fingerprints",
    "personas.duplicates",
    "runs.resolved",
)
"""Tables whose rows keep their times when they are written again unchanged. The times are part of
the version of a comparison or a decision, or a run of one shard writes the rows of many: those that
it does not change have nothing to do then. Other tables' times say when a stage ran, which the
checks rely on."""
OUTDATED = "written-meanwhile"
"""Version of an input that changed while a stage worked. No stage ever has this version."""
FUNNEL = {
    "input_count": pl.Int64,
    "rows_in": pl.Int64,
    "source": pl.String,
    "input_version": pl.String,
    "output_version": pl.String,
}
"""Columns of `runs.stages`, without the common ones."""


@dataclass(frozen=True, slots=True)
class FunnelCounts:
    """How many rows a stage read, and how many were asked of it."""

    input_count: int
    """Rows that were read from upstream."""
    rows_in: int
    """Rows that were asked for. Each ends as kept, rejected, duplicate or failed."""
    source: str | None = None
    """The selection that the rows were read from; None: all of upstream."""


REJECTED = {"reason": pl.String, "detail": pl.String}
"""What every table of rejected rows has."""


@dataclass(frozen=True, slots=True)
class StageRows:
    """The rows that one stage of one shard leaves behind, in place of those of its last run."""

    shard: str
    stage: str
    tables: Mapping[str, pl.DataFrame]
    """Rows by table, without the columns shard, run_id and created_at."""
    funnel: FunnelCounts | None = None
    """Counts for `marts.funnel`; None for a step that rejects nothing."""
    scope: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """For tables that several stages share: the column and value that mark this stage's rows."""

    @property
    def kept(self) -> pl.DataFrame:
        """The rows of the stage's first table. A stage that asks or judges keeps these."""
        kept = [rows for table, rows in self.tables.items() if not _is_rejected(table)]
        return kept[0] if kept else pl.DataFrame()

    @property
    def rejected(self) -> pl.DataFrame:
        """The rows that the stage turned away, each with its reason."""
        turned_away = [rows for table, rows in self.tables.items() if _is_rejected(table)]
        return turned_away[0] if turned_away else pl.DataFrame(schema=REJECTED)

    def version(self) -> str:
        """Return a hash (16 hex digits) of the ids that the stage made, in any order.

        It is only compared with stored versions. Another release of polars may hash differently,
        and rows that are written again then count as new.
        """
        total = 0
        for table, rows in sorted(self.tables.items()):
            ids = [name for name in IDS if name in rows.columns]
            if ids and not _is_rejected(table):
                total += int(rows.select(pl.struct(ids).hash(0).cast(pl.UInt64)).sum().item() or 0)
        return f"{total % 2**64:016x}"


def _is_rejected(table: str) -> bool:
    return table.endswith(".rejected")


def frame(rows: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]) -> pl.DataFrame:
    """Build a frame with these columns, even from no rows."""
    return pl.DataFrame(list(rows), schema=dict(schema), orient="row")


def replace_stage(
    connection: duckdb.DuckDBPyConnection, rows: StageRows, run_id: str, read_at: datetime | None
) -> None:
    """Replace the rows of one stage of one shard, and its row of `runs.stages`.

    Rows of the tables STAYING that are as they were stay, with the run and the time that wrote
    them: what was compared with them is not out of date.

    Args:
        connection: in a transaction.
        rows: what the stage made.
        run_id: the Dagster run, for the column `run_id`.
        read_at: when the stage began to read, in UTC; None: not known.
    """
    has_changed = False
    for table, new in rows.tables.items():
        column, value = rows.scope.get(table, (None, None))
        where = "where shard = $shard" + (f" and {column} = $value" if column else "")
        parameters = {"shard": rows.shard} | ({"value": value} if column else {})
        if table in STAYING and _are_stored(connection, new, f"from {table} {where}", parameters):
            continue
        has_changed |= not table.startswith("runs.")
        connection.execute(f"delete from {table} {where}", parameters)
        insert_rows(connection, table, new, {"shard": rows.shard}, run_id)
    if rows.funnel:
        versions = {
            "input_version": _input_version(connection, rows, read_at),
            "output_version": rows.version(),
        }
        counts = frame([{**asdict(rows.funnel), **versions}], FUNNEL)
        _replace_counts(connection, rows, counts, run_id, may_stay=not has_changed)


def _replace_counts(
    connection: duckdb.DuckDBPyConnection,
    rows: StageRows,
    counts: pl.DataFrame,
    run_id: str,
    *,
    may_stay: bool,
) -> None:
    """Replace the stage's row of `runs.stages`; with `may_stay`, only if it says something else.

    A run of one shard decides the duplicates of many. Those that it does not change have the time
    of their last change, and so nothing after them is out of date.
    """
    labels = {"shard": rows.shard, "stage": rows.stage}
    source = "from runs.stages where shard = $shard and stage = $stage"
    labelled = counts.with_columns(stage=pl.lit(rows.stage))
    if may_stay and _are_stored(connection, labelled, source, labels):
        return
    connection.execute(f"delete {source}", labels)
    insert_rows(connection, "runs.stages", counts, labels, run_id)


def _are_stored(
    connection: duckdb.DuckDBPyConnection,
    frame: pl.DataFrame,
    source: str,
    parameters: Mapping[str, str | None],
) -> bool:
    """Tell whether `source` has exactly these rows, leaving out who wrote them and when.

    A shard of 10,000 vectors of 384 dimensions takes 0.06 CPU-seconds; writing it takes 0.25.
    """
    rows = f"select * exclude (shard, run_id, created_at) {source}"
    columns = connection.execute(f"describe {rows}", parameters).fetchall()
    listing = ", ".join(
        f"{_quoted(name) if name in frame.columns else 'null'}::{kind} as {_quoted(name)}"
        for name, kind, *_ in columns
    )
    connection.register("rows_to_compare", frame)
    contents = (content_query(rows), content_query(f"select {listing} from rows_to_compare"))
    [stored, new] = connection.execute(" union all ".join(contents), parameters).fetchall()
    connection.unregister("rows_to_compare")
    return bool(stored == new)


def _quoted(name: str) -> str:
    return f'"{name}"'


def insert_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    rows: pl.DataFrame,
    labels: Mapping[str, str],
    run_id: str,
) -> None:
    """Insert the rows by column name, with the labels, the run and the time.

    `labels` are columns that have one value in all rows. They replace columns of `rows`.
    """
    constants = {**labels, "run_id": run_id}
    listing = ", ".join(f"${name} as {name}" for name in constants)
    connection.register("rows_to_insert", rows.drop(*constants, strict=False))
    connection.execute(
        f"insert into {table} by name "
        f"select *, {listing}, now() at time zone 'UTC' as created_at from rows_to_insert",
        constants,
    )
    connection.unregister("rows_to_insert")


OUTPUTS_SQL: Final = """
-- One row per stage of the shard that is asked for: what its rows are now, and since when.
-- reads: runs.stages   params: $shard, $stages
select stage, output_version, created_at
from runs.stages
where shard = $shard and stage in (select unnest($stages))
order by stage
"""


def _input_version(
    connection: duckdb.DuckDBPyConnection, rows: StageRows, read_at: datetime | None
) -> str | None:
    """Return what upstream stages made of this shard, as stage=version; None: not known."""
    parameters = {"shard": rows.shard, "stages": stages_before(rows.stage)}
    outputs = connection.execute(OUTPUTS_SQL, parameters).fetchall()
    if any(read_at and written > read_at for _, _, written in outputs):
        return OUTDATED
    known = [f"{stage}={version}" for stage, version, _ in outputs if version is not None]
    return " ".join(known) or None
