"""What a new shard costs, beside deduplicating everything from scratch.

    uv run python benchmarks/increment.py                       # 180,000 more on 1.8 million
    uv run python benchmarks/increment.py --rows 220000 --shards 11 --repeats 5

Both are the whole way from stored candidates to committed duplicates: compare, commit, decide,
commit. The tables must come out equal. The personas are shuffled, so that copies of what is new are
in all other shards; --in-order leaves them as they were made, copies near each other. Publishing
the snapshot is left out: it copies the whole file, whatever was in the commit.
CPU-seconds are user and system time of the process; the first run of all warms up and is not
counted.
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

import polars as pl
from calls import tell
from persona_sentences import write_personas

from persona_pipeline.hub.comparison import compare_shards
from persona_pipeline.hub.decisions import deduplicate
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.project import open_project
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

TABLES = {
    "personas.duplicates": "* exclude (run_id, created_at)",
    "personas.fingerprints": "* exclude (run_id, created_at, is_repeated)",
    "personas.pairs": "distinct layer, first_key, second_key, similarity, fuzzy_score",
}
"""What must be equal. Which shard holds a pair, and whether a set was known when its shard was
compared, depends on the order of arrival."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one comparison and decision."""

    cpu_s: float
    wall_s: float


class Project:
    """A database with candidates in shards, and the folder around it."""

    def __init__(self, folder: Path, personas: pl.DataFrame, shards: int, jaccard: float) -> None:
        """Nothing is in the database yet."""
        shutil.rmtree(folder, ignore_errors=True)
        self._store = Store(folder / "pipeline.duckdb", folder / "published.duckdb")
        self._store.migrate()
        self._size = len(personas) // shards
        self._personas = personas
        self._plan = _plan(folder, jaccard)

    def add_shard(self, number: int) -> None:
        """The candidates of shard `number`, counted from 0."""
        shard, rows = f"s{number:03}", self._personas.slice(number * self._size, self._size)
        with self._store.transaction() as connection:
            connection.execute(
                "insert into corpus.shards (shard, shard_number) values (?, ?)", [shard, number + 1]
            )
        self._store.replace(
            [StageRows(shard, "candidates", {"personas.candidates": rows})], [], run_id="benchmark"
        )

    def deduplicate(self, number: int) -> Cost:
        """Everything that has changed, up to the commit of the duplicates of this shard."""
        before, start = _cpu_s(), time.perf_counter()
        self._store.replace(compare_shards(self._store, self._plan), [], run_id="benchmark")
        matches = deduplicate(self._store, self._plan, f"s{number:03}")
        self._store.replace(matches, [], run_id="benchmark")
        return Cost(_cpu_s() - before, time.perf_counter() - start)

    def tables(self) -> Iterator[pl.DataFrame]:
        """The rows of each table, sorted."""
        for table, columns in TABLES.items():
            yield self._store.query(f"select {columns} from {table} order by all")


def _plan(folder: Path, jaccard: float) -> DedupPlan:
    project = open_project(
        data_dir=folder,
        jaccard_threshold=jaccard,
        store_pairs_from=jaccard,
        cosine_threshold=None,
    )
    return project.dedup_plan


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(
    folder: Path, personas: pl.DataFrame, shards: int, jaccard: float
) -> tuple[Cost, Cost, bool]:
    """From scratch, the last shard on all others, and whether the tables are equal."""
    scratch = Project(folder / "scratch", personas, shards, jaccard)
    for number in range(shards):
        scratch.add_shard(number)
    whole = scratch.deduplicate(0)
    project = Project(folder / "increment", personas, shards, jaccard)
    for number in range(shards - 1):
        project.add_shard(number)
    project.deduplicate(0)
    project.add_shard(shards - 1)
    added = project.deduplicate(shards - 1)
    pairs = zip(scratch.tables(), project.tables(), strict=True)
    return whole, added, all(one.equals(other) for one, other in pairs)


def table(costs: list[tuple[Cost, Cost, bool]], rows: int, shards: int) -> Iterator[str]:
    """One line each for CPU and wall time: medians."""
    yield f"{rows // shards:,} personas more on {rows - rows // shards:,}: medians of {len(costs)}"
    yield "| | from scratch | one more shard | share |"
    yield "|---|---|---|---|"
    for name in ("cpu_s", "wall_s"):
        whole, added = (median(getattr(cost[at], name) for cost in costs) for at in (0, 1))
        yield f"| {name} | {whole:.2f} | {added:.2f} | {added / whole:.1%} |"
    yield "tables equal" if all(equal for _, _, equal in costs) else "TABLES DIFFER"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_980_000, help="personas in all")
    parser.add_argument("--shards", type=int, default=11, help="equal parts, the last one is new")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--in-order", action="store_true", help="copies near each other")
    parser.add_argument("--file", type=Path, help="Parquet of persona_id, persona; default: made")
    options = parser.parse_args()
    if not 1 < options.shards <= options.rows:
        parser.error("give two shards at least, and a persona for each")
    with tempfile.TemporaryDirectory() as work, patch.object(Store, "publish"):
        source = options.file or Path(work) / "personas.parquet"
        if not options.file:
            tell(f"personas: {options.rows:,}")
            write_personas(source, options.rows, 1)
        personas = pl.read_parquet(source).head(options.rows).select("persona_id", "persona")
        if not options.in_order:
            personas = personas.sample(fraction=1, shuffle=True, seed=1)
        personas = personas.with_columns(origin=pl.lit("text_to_persona"), word_count=13)
        measure(Path(work), personas.head(options.rows // options.shards), 2, options.threshold)
        costs = []
        for number in range(options.repeats):
            tell(f"run {number + 1} of {options.repeats}")
            costs.append(measure(Path(work), personas, options.shards, options.threshold))
    print("\n".join(table(costs, options.rows, options.shards)))


if __name__ == "__main__":
    main()
