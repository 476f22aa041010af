"""How long full-text search takes: seconds per query over made personas.

python benchmarks/search.py --rows 1000000
"""

import argparse
import tempfile
import time
from pathlib import Path

from persona_sentences import write_personas

from persona_pipeline.store.store import Store

QUERIES = (
    "baker",
    "night nurse",
    "blacksmith Tromso soil",
    "who",
    "nurse who bakes in Oslo",
    "qqq",
)
"""Rare words, words that two thirds of all personas have, and one that is nowhere."""
FILL = """
    insert into personas.hub by name
    select 's' || (row_number() over () // 20000) as shard, persona_id, persona
    from read_parquet($path)
"""


def main() -> None:
    """Make the personas, search them three times, and print the fastest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_personas(folder / "personas.parquet", rows, seed=1)
        store = Store(folder / "pipeline.duckdb", folder / "published.duckdb")
        store.migrate()
        with store.transaction() as connection:
            connection.execute(FILL, {"path": str(folder / "personas.parquet")})
        for query in QUERIES:
            matches, seconds, cpu = search(store, query)
            print(f"{seconds:6.2f} s  {cpu:6.2f} CPU-s  {matches:9,} personas  {query}")


def search(store: Store, query: str) -> tuple[int, float, float]:
    """How many personas have a word of the query; seconds and CPU-seconds of the ten best."""
    times = []
    with store.connect(read_only=True) as connection:
        for _ in range(3):
            start, cpu = time.perf_counter(), time.process_time()
            connection.execute("from marts.search_personas($1) limit 10", [query]).fetchall()
            times.append((time.perf_counter() - start, time.process_time() - cpu))
        counted = connection.execute("select count(*) from marts.scores('personas', $1)", [query])
        [(matches,)] = counted.fetchall()
    return int(matches), *min(times)


if __name__ == "__main__":
    main()
