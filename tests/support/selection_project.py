"""A store whose hub is written by hand, for the tests of selections."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import polars as pl
import pytest

from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.selection import select_personas
from persona_pipeline.hub.selection_rules import Selection
from persona_pipeline.project import Project
from persona_pipeline.settings import load_settings
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

MODEL = "fake/embedder"
WORDS = [f"w{number}" for number in range(12)]


@dataclass(frozen=True, slots=True)
class Persona:
    persona_id: str
    persona: str
    shard_number: int
    vector: tuple[float, ...] | None

    @property
    def shard(self) -> str:
        return f"s{self.shard_number}"


@contextmanager
def open_selection_project(
    empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator["SelectionProject"]:
    """Yield a project that does not publish: that is not tested, and takes most of the time."""
    monkeypatch.setattr(Store, "publish", lambda _: None)
    with TemporaryDirectory() as folder:
        shutil.copy(empty_database / "pipeline.duckdb", folder)
        yield SelectionProject(Path(folder))


class SelectionProject:
    """A store whose hub is written by hand."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(data_dir=folder, embedding_model=MODEL, dedup_threads=1)
        self.store = Store(self.settings.database, self.settings.snapshot)
        self.removed: dict[float, int] = {}

    @property
    def plan(self) -> DedupPlan:
        return Project(self.settings).dedup_plan

    def write(self, personas: Sequence[Persona]) -> None:
        """Make these the hub, in this order of rows."""
        numbers = {persona.shard_number for persona in personas}
        with self.store.transaction() as connection:
            for table in ("corpus.shards", "personas.hub"):
                connection.execute(f"delete from {table}")
            for number in numbers:
                connection.execute(
                    "insert into corpus.shards (shard, shard_number) values (?, ?)",
                    [f"s{number}", number],
                )
        rows = [self._stage(personas, number) for number in numbers]
        self.store.replace(rows, [], run_id="r")

    def select(self, name: str = "diverse", **rules: object) -> list[tuple[str, float | None]]:
        """Make the selection; its personas and distances, in the order of selection."""
        chosen = select_personas(self.store, self.plan, name, Selection.model_validate(rules))
        self.store.replace(chosen.rows, [], run_id="r")
        self.removed = chosen.removed
        return self.selected(name)

    def selected(self, name: str = "diverse") -> list[tuple[str, float | None]]:
        return self.store.query(
            "select persona_id, distance from personas.selections where name = $name"
            " order by place",
            {"name": name},
        ).rows()

    @staticmethod
    def _stage(personas: Sequence[Persona], number: int) -> StageRows:
        own = [persona for persona in personas if persona.shard_number == number]
        named = pl.DataFrame(
            [(one.persona_id, one.persona, "text_to_persona") for one in own],
            schema={"persona_id": pl.String, "persona": pl.String, "origin": pl.String},
            orient="row",
        )
        vectors = pl.DataFrame(
            [(one.persona_id, MODEL, one.vector) for one in own if one.vector],
            schema={
                "persona_id": pl.String,
                "model": pl.String,
                "embedding": pl.List(pl.Float32),
            },
            orient="row",
        )
        tables = {
            "personas.hub": named,
            "personas.candidates": named.with_columns(word_count=pl.lit(0, pl.Int64)),
            "personas.embeddings": vectors,
        }
        return StageRows(f"s{number}", "t", tables)


def people(count: int, seed: int = 0) -> list[Persona]:
    """Return personas with different texts and directions, in three shards."""
    random = Random(seed)
    return [
        Persona(
            f"p{number:02}",
            f"Person {number} " + " ".join(random.sample(WORDS, 5)),
            number % 3,
            tuple(random.gauss(0, 1) for _ in range(4)),
        )
        for number in range(count)
    ]
