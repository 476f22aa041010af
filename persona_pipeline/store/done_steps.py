"""Record which steps of which shards are done, and tell why others are not.

A step is done as long as its code and settings, the rows that it read and the rows that it left are
what they were when it ended. Rows are told apart by their number and by when the last was written.
So no text is read.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import duckdb
import polars as pl

from persona_pipeline.sql import fetch
from persona_pipeline.store.stage_rows import OUTDATED, insert_rows


class Reason(StrEnum):
    """Why a run has to do a step."""

    FORCED = "force is set"
    NEVER_DONE = "it was never done"
    SETTINGS = "its settings or the program have changed"
    INPUT = "what it reads has changed"
    OUTPUT = "what it left has changed"
    OTHER_SHARDS = "other shards, or the settings of deduplication, have changed"
    UNFINISHED = "calls failed, or what it reads changed while it ran"


class Undone(NamedTuple):
    """Why a run has to do a step.

    Attributes:
        reason: the first reason that holds.
        part: the part of a table that has changed; empty if none is the reason.
        is_damaged: whether the rows that the step left are not what they were.
    """

    reason: Reason
    part: str = ""
    is_damaged: bool = False

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.reason}: {self.part}" if self.part else str(self.reason)


OUTPUT_VERSIONS: Final = "output versions"
"""Name of the part that tells a stage's rows by their ids, whenever they were written."""


class Part(NamedTuple):
    """The rows of a table that one step reads or writes."""

    table: str
    owner: str | None = None
    """The stage, domain or selection that the rows belong to; None: all rows of the table."""

    def __str__(self) -> str:
        """Name the table, and whose rows of it."""
        return self.table if self.owner is None else f"{self.table} ({self.owner})"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a shard.

    Attributes:
        name: its name in `runs.steps`.
        version: a hash of all that its rows depend on, beside the rows that it reads.
        reads: the rows that it is made from.
        writes: the rows that it leaves.
        is_of_all: whether it may write rows of other shards, too.
    """

    name: str
    version: str
    reads: tuple[Part, ...]
    writes: tuple[Part, ...]
    is_of_all: bool = False


@dataclass(frozen=True, slots=True)
class _Columns:
    """SQL expressions over a table: whose a row is, when it was written, whether it is unfinished.

    `table`: the table, if a part is not named after it.
    """

    owner: str = "null::varchar"
    written_at: str = "created_at"
    is_unfinished: str = "false"
    table: str | None = None


_ANY: Final = _Columns()
_COLUMNS: Final[Mapping[str, _Columns]] = {
    # Registering a source writes its shards again: the file and its content tell them apart.
    "corpus.shards": _Columns("concat_ws(' ', staged_file, content_hash)", "null::timestamp"),
    "personas.rejected": _Columns("stage", is_unfinished="reason = 'call_failed'"),
    "personas.selections": _Columns("name"),
    "synthetic.rejected": _Columns("domain", is_unfinished="reason = 'call_failed'"),
    # A call that failed is asked for again, and leaves a row each time.
    "llm.calls": _Columns("case when status <> 'failed' then stage end", "null::timestamp"),
    "runs.stages": _Columns("stage", is_unfinished=f"input_version = '{OUTDATED}'"),
    OUTPUT_VERSIONS: _Columns("stage", "output_version", table="runs.stages"),
    "runs.stops": _Columns("stage"),
}
"""Tables that several steps own rows of, or that are written in other ways than by `Store`."""


class _Rows(NamedTuple):
    """Rows of one owner: their number, when the last was written, and the number of unfinished."""

    row_count: int
    written_at: str | None
    unfinished_count: int


class ShardRows:
    """What the tables hold of one shard."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._tables = defaultdict[str, dict[str | None, _Rows]](dict)

    def add(self, table: str, owner: str | None, rows: _Rows) -> None:
        """Add the rows of one owner."""
        self._tables[table][owner] = rows

    def describe(self, parts: Iterable[Part]) -> str:
        """Spell these parts: equal texts stand for equal rows."""
        return "; ".join(self._describe(part) for part in parts)

    def is_unfinished(self, parts: Iterable[Part]) -> bool:
        """Tell whether a row of these parts says that its step must be done again."""
        return any(rows.unfinished_count for part in parts for rows in self._of(part).values())

    def _of(self, part: Part) -> Mapping[str | None, _Rows]:
        owners = self._tables[part.table]
        if part.owner is None:
            return owners
        return {part.owner: owners[part.owner]} if part.owner in owners else {}

    def _describe(self, part: Part) -> str:
        owners = sorted(self._of(part).items(), key=str)
        rows = [f"{owner or ''} {rows.row_count} {rows.written_at or ''}" for owner, rows in owners]
        return f"{part}: {', '.join(rows)}"


def read_rows(
    connection: duckdb.DuckDBPyConnection, parts: Iterable[Part], shards: Sequence[str]
) -> Mapping[str, ShardRows]:
    """Read what the tables of these parts hold of each of the shards."""
    result = {shard: ShardRows() for shard in shards}
    existing = {name for (name,) in connection.sql(TABLES_SQL).fetchall()}
    tables = [
        table for table in sorted({part.table for part in parts}) if _table_of(table) in existing
    ]
    if not tables or not shards:
        return result
    sql = " union all ".join(map(_rows_of_table, tables))
    rows = connection.execute(sql, {"shards": list(shards)}).fetchall()
    for shard, table, owner, *numbers in rows:
        result[shard].add(table, owner, _Rows(*numbers))
    return result


TABLES_SQL: Final = """
-- One row per table of the project.
-- reads: duckdb_tables(), which takes half the time of information_schema.tables
select schema_name || '.' || table_name
from duckdb_tables()
"""


def _rows_of_table(table: str) -> str:
    """Return the SELECT of a table's rows by shard and owner."""
    columns = _COLUMNS.get(table, _ANY)
    return (
        f"select shard, '{table}', {columns.owner} as owner, count(*), "
        f"max({columns.written_at})::varchar, count(*) filter ({columns.is_unfinished}) "
        f"from {_table_of(table)} where shard in (select unnest($shards)) group by all"
    )


def _table_of(name: str) -> str:
    """Return the table that a part of this name is in."""
    return _COLUMNS.get(name, _ANY).table or name


@dataclass(frozen=True, slots=True)
class DoneStep:
    """A step that has ended.

    Attributes:
        step: the step.
        inputs: what it has read of each shard, as `read_inputs` spelled it before it began.
        shards: the shards that it was done for. One that has no input is left out.
    """

    step: Step
    inputs: Mapping[str, str]
    shards: frozenset[str]


def mark_done(connection: duckdb.DuckDBPyConnection, done: DoneStep, run_id: str) -> None:
    """Enter in `runs.steps` that a step was done, in the transaction that writes its rows."""
    step, shards = done.step, sorted(done.shards & done.inputs.keys())
    written = read_rows(connection, step.writes, shards)
    connection.execute(
        "delete from runs.steps where step = $step and shard in (select unnest($shards))",
        {"step": step.name, "shards": shards},
    )
    rows = [
        (shard, step.version, done.inputs[shard], written[shard].describe(step.writes))
        for shard in shards
    ]
    schema = ["shard", "version", "inputs", "outputs"]
    frame = pl.DataFrame(rows, dict.fromkeys(schema, pl.String), orient="row")
    insert_rows(connection, "runs.steps", frame, {"step": step.name}, run_id)


def read_inputs(
    connection: duckdb.DuckDBPyConnection, step: Step, shards: Sequence[str]
) -> dict[str, str]:
    """Spell what the step reads of the shards, and of each other one whose rows it may write."""
    others = [name for (name,) in connection.sql(SHARDS_SQL).fetchall()] if step.is_of_all else []
    read = read_rows(connection, step.reads, sorted({*shards, *others}))
    return {name: rows.describe(step.reads) for name, rows in read.items()}


SHARDS_SQL: Final = """
-- One row per registered shard.
-- reads: corpus.shards
select shard
from corpus.shards
"""


DONE_SQL: Final = """
-- One row per step of these shards that is done.
-- reads: runs.steps   params: $shards
select shard, step, version, inputs, outputs
from runs.steps
where shard in (select unnest($shards))
"""


def why_undone(
    connection: duckdb.DuckDBPyConnection, steps: Sequence[Step], shards: Sequence[str]
) -> dict[str, dict[str, Undone]]:
    """Say why steps of these shards are not done: a reason by shard and step, in their order.

    A step that is done is left out.
    """
    parts = [part for step in steps for part in (*step.reads, *step.writes)]
    now = read_rows(connection, parts, shards)
    stored = fetch(connection, DONE_SQL, {"shards": list(shards)}).iter_rows()
    done = {(shard, step): tuple(versions) for shard, step, *versions in stored}
    return {
        shard: {
            step.name: why
            for step in steps
            if (why := _why(step, done.get((shard, step.name)), now[shard]))
        }
        for shard in shards
    }


def _why(step: Step, done: tuple[str, ...] | None, now: ShardRows) -> Undone | None:
    """Return why a step is not done; None: it is."""
    if done is None:
        return Undone(Reason.NEVER_DONE)
    version, read, left = done
    inputs, outputs = now.describe(step.reads), now.describe(step.writes)
    is_damaged = left != outputs
    if version != step.version:
        return Undone(Reason.SETTINGS, is_damaged=is_damaged)
    if read != inputs:
        return Undone(Reason.INPUT, _first_difference(read, inputs), is_damaged)
    if is_damaged:
        return Undone(Reason.OUTPUT, _first_difference(left, outputs), is_damaged)
    return Undone(Reason.UNFINISHED) if now.is_unfinished(step.writes) else None


def _first_difference(stored: str, current: str) -> str:
    """Name the first part that differs."""
    pairs = zip(stored.split("; "), current.split("; "), strict=False)
    changed = next((new for old, new in pairs if old != new), current)
    return changed.partition(":")[0]
