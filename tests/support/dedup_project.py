"""A store with candidates written by hand, for the tests of reports about deduplication."""

import polars as pl

from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import TOLERANCE, Comparison, Thresholds
from persona_pipeline.dedup.words.set_cache import SetCache
from persona_pipeline.hub.comparison import compare_shards
from persona_pipeline.hub.decisions import deduplicate
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.sweep import SweepStep, sweep
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

MODEL = "fake/embedder"
HUB = [Thresholds(0.9, 0.95)]
TEN = "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9"


class Project:
    """A store with candidates written by hand, compared and decided as the assets do it."""

    def __init__(self, store: Store) -> None:
        self.store, self.folder = store, store.path.parent
        self.plan = DedupPlan(
            thresholds=Thresholds(0.9, 0.95),
            comparison=Comparison(0.7, 0.95, has_scores=True),
            embedding_model=MODEL,
            cache=SetCache(self.folder / "dedup", 0.7 - TOLERANCE),
            resources=Resources(threads=1),
        )
        with self.store.transaction() as connection:
            connection.execute("insert into corpus.shards (shard, shard_number) values ('s1', 1)")

    def write(self, personas: dict[str, str], **vectors: list[float]) -> None:
        """Write candidates (id to text), which rank in this order, and the vectors of some."""
        places = range(len(personas), 0, -1)
        rows = [
            (key, "text_to_persona", text, place)
            for place, (key, text) in zip(places, personas.items(), strict=True)
        ]
        candidates = pl.DataFrame(
            rows,
            schema={
                "persona_id": pl.String,
                "origin": pl.String,
                "persona": pl.String,
                "word_count": pl.Int64,
            },
            orient="row",
        )
        embeddings = pl.DataFrame(
            [(key, MODEL, vector) for key, vector in vectors.items()],
            schema={"persona_id": pl.String, "model": pl.String, "embedding": pl.List(pl.Float32)},
            orient="row",
        )
        tables = {"personas.candidates": candidates, "personas.embeddings": embeddings}
        self.store.replace([StageRows("s1", "t", tables)], [], run_id="r")

    def deduplicate(self, personas: dict[str, str], **vectors: list[float]) -> None:
        self.write(personas, **vectors)
        self.store.replace(compare_shards(self.store, self.plan), [], run_id="r")
        self.store.replace(deduplicate(self.store, self.plan, "s1"), [], run_id="r")

    def sweep(self, *thresholds: float) -> list[SweepStep]:
        return sweep(self.store, self.plan, thresholds)


def changed(count: int) -> str:
    """Replace the first words of TEN: the Jaccard similarity is (10 - count) / (10 + count)."""
    return " ".join([f"x{count}y{number}" for number in range(count)] + TEN.split()[count:])
