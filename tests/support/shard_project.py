"""A store whose shards are written by hand, and deduplicated as the assets do it."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.dedup.vectors.search import EXACT_UP_TO
from persona_pipeline.dedup.words.set_cache import SetCache
from persona_pipeline.hub.comparison import compare_shards
from persona_pipeline.hub.decisions import deduplicate
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

MODEL = "fake/embedder"


@dataclass
class Project:
    """A store whose shards are written by hand, and deduplicated as the assets do it."""

    folder: Path
    thresholds: Thresholds = field(default_factory=lambda: Thresholds(0.7, 0.95))
    store_pairs_from: float = 0.5
    exact_up_to: int = EXACT_UP_TO
    memory_bytes: int = 2_000_000_000

    def __post_init__(self) -> None:
        self.store = Store(self.folder / "pipeline.duckdb", self.folder / "published.duckdb")
        self.store.migrate()

    @property
    def plan(self) -> DedupPlan:
        comparison = Comparison.for_thresholds(self.thresholds, self.store_pairs_from)
        cache = SetCache(self.folder / "dedup", comparison.joined_from)
        resources = Resources(self.memory_bytes, threads=1)
        return DedupPlan(
            self.thresholds, comparison, MODEL, cache, resources, exact_up_to=self.exact_up_to
        )

    def write(self, number: int, personas: dict[str, str], *, has_vectors: bool = True) -> None:
        """Give a shard these candidates (id to text), in place of those it had."""
        shard = f"s{number}"
        with self.store.transaction() as connection:
            connection.execute("delete from corpus.shards where shard = ?", [shard])
            connection.execute(
                "insert into corpus.shards (shard, shard_number) values (?, ?)", [shard, number]
            )
        candidates = pl.DataFrame(
            [(key, "text_to_persona", text, len(text.split())) for key, text in personas.items()],
            schema=["persona_id", "origin", "persona", "word_count"],
            orient="row",
        )
        tables = {"personas.candidates": candidates.cast({"word_count": pl.Int64})}
        if has_vectors:
            tables["personas.embeddings"] = vectors_of(personas)
        self.store.replace([StageRows(shard, "t", tables)], [], run_id="r")

    def deduplicate(self, number: int) -> None:
        """Do what the assets pairs and duplicates do for a shard."""
        self.store.replace(compare_shards(self.store, self.plan), [], run_id="r")
        self.store.replace(deduplicate(self.store, self.plan, f"s{number}"), [], run_id="r")

    def duplicates(self) -> list[tuple[object, ...]]:
        return self.store.query(
            "select shard, persona_id, kept_id, layer, similarity, threshold, fuzzy_score"
            " from personas.duplicates order by all"
        ).rows()

    def pairs(self) -> list[tuple[object, ...]]:
        return self.store.query(
            "select distinct layer, first_key, second_key, similarity from personas.pairs"
            " order by all"
        ).rows()

    def kept(self) -> list[str]:
        return self.store.query(
            "select persona_id from personas.candidates anti join personas.duplicates"
            " using (persona_id) order by all"
        )["persona_id"].to_list()


def vectors_of(personas: dict[str, str]) -> pl.DataFrame:
    """Derive a vector from three words of a text, so that some texts are near in meaning only."""
    rows = []
    for key, text in personas.items():
        vector = np.zeros(8, np.float32)
        for word in sorted(text.split())[:3]:
            vector[int(word[1:]) % 8] += 1
        rows.append((key, MODEL, vector.tolist()))
    schema = {"persona_id": pl.String(), "model": pl.String(), "embedding": pl.List(pl.Float32)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def from_scratch(shards: dict[int, dict[str, str]], fresh: Project) -> list[tuple[object, ...]]:
    for number, personas in shards.items():
        fresh.write(number, personas)
    if shards:
        fresh.deduplicate(min(shards))
    return fresh.duplicates()
