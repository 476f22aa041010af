"""What a run will buy: a rehearsal on the real prompts, with made-up answers for what is missing.

Every stage runs as it would, up to the database. Answers that were bought are used, so a run with
nothing left to buy is estimated at 0. For the others a made-up answer stands in, and its request is
counted: the later stages, which ask about made-up personas, are near what they will be.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import polars as pl

from persona_pipeline.corpus.shards import load_shard
from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.hub.selection import selected_count
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.clients.embedded import SLOTS
from persona_pipeline.llm.clients.embedding_client import embedding_request
from persona_pipeline.llm.clients.fake import instance_of_schema
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.prices import Price, known_sum, price_of
from persona_pipeline.llm.requests import ChatRequest, runs_here
from persona_pipeline.models import is_batched
from persona_pipeline.personas.persona_to_persona import persona_to_persona
from persona_pipeline.personas.quality import apply_quality_rules, quality
from persona_pipeline.personas.text_to_persona import text_to_persona
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings
from persona_pipeline.stage_names import EMBEDDINGS, PERSONA_TO_PERSONA, TEXT_TO_PERSONA
from persona_pipeline.synthesis.records import SynthesisPlan, read_personas, synthesize

REHEARSED = 2000
"""Documents above which every second, third, ... shard is rehearsed: whole ones, spread over all,
since they are bought in their order. Some 10 s of work."""
BYTES_PER_TOKEN = 4
"""English text; the rule of thumb of OpenAI's tokenizer guide."""
USUAL_SLOTS = 32
"""Calls in flight that most servers take: where the rate limiter starts, too."""
UNKNOWN_LENGTH = 0.4
"""Share of the allowed answer that is used, where no earlier answer says."""

RANKED = {
    "persona_id": pl.String(),
    "persona": pl.String(),
    "shard_number": pl.Int64(),
    "quality": pl.Float64(),
}


STAGED_FILES_SQL: Final = """
-- One row per registered shard that is asked for, with its staged file and size.
-- reads: corpus.shards   params: $shards
select shard, staged_file, row_count
from corpus.shards
where list_contains($shards, shard)
order by shard
"""

USUAL_ANSWER_SQL: Final = """
-- One row per stage and model: the length of an answer, and the seconds it takes.
-- reads: llm.calls
select stage, model, avg(tokens_out) as tokens_out, avg(latency_ms) / 1000 as seconds
from llm.calls
where status <> 'failed'
group by stage, model
order by stage, model
"""

VECTORS_SQL: Final = """
-- One row per candidate that has a vector of this embedding model.
-- reads: personas.embeddings   params: $model
select persona_id, embedding
from personas.embeddings
where model = $model
order by persona_id
"""


@dataclass(slots=True)
class StageEstimate:
    """What one stage will buy from one model. `seconds`, `usd`: None when unknown."""

    stage: str
    model: str
    reused: int = 0
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float | None = 0.0
    seconds: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will buy, by stage. `share`: of the documents, those in rehearsed shards."""

    stages: list[StageEstimate]
    share: float

    @property
    def calls(self) -> int:
        """In all stages."""
        return sum(stage.calls for stage in self.stages)

    @property
    def tokens(self) -> int:
        """In and out, in all stages."""
        return sum(stage.tokens_in + stage.tokens_out for stage in self.stages)

    @property
    def usd(self) -> float | None:
        """None: a price is unknown."""
        return known_sum(stage.usd for stage in self.stages)

    @property
    def seconds(self) -> float | None:
        """None: nobody knows yet how fast the model is."""
        return known_sum(stage.seconds for stage in self.stages)


def estimate_run(project: Project, shards: Sequence[str]) -> Estimate:
    """Rehearse the run over registered shards, in order."""
    listed = project.store.query(STAGED_FILES_SQL, {"shards": shards})
    files = {shard: (name, rows) for shard, name, rows in listed.iter_rows()}
    folder = project.settings.staging_dir
    staged = [(shard, folder / files[shard][0], files[shard][1]) for shard in shards]
    return estimate_staged(project, staged)


def estimate_staged(project: Project, staged: Sequence[tuple[str, Path, int]]) -> Estimate:
    """Rehearse the run over these shards (name, file, rows), in order."""
    total = sum(rows for _, _, rows in staged)
    chosen = staged[:: max(1, total // REHEARSED)]
    share = sum(rows for _, _, rows in chosen) / total if total else 1.0
    with Journal(project.settings.journal_dir) as journal:
        journal.index.refresh()
        rehearsal = _Rehearsal(project, journal, share)
        rehearsal.run({shard: path for shard, path, _ in chosen})
    stages = [_scaled(stage, 1 / share) for stage in rehearsal.stages.values()]
    return Estimate(stages, share)


@dataclass
class _Rehearsal:
    """Stands where the gateway stands: knows what was bought, makes up the rest."""

    project: Project
    journal: Journal
    share: float
    """Of the documents, those in rehearsed shards."""
    stages: dict[str, StageEstimate] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    is_made_up: bool = False
    past: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def run(self, staged: Mapping[str, Path]) -> None:
        """Rehearse whole shards in their order: duplicates are those of an earlier one."""
        self.past = self._past()
        everyone = pl.DataFrame(schema=RANKED)
        hubs: dict[str, pl.DataFrame] = {}
        for number, (shard, path) in enumerate(staged.items()):
            documents = load_shard(shard, path).tables["corpus.documents"]
            hubs[shard], everyone = self._rehearse(shard, number, documents, everyone)
        for domain in self.project.domains.values():
            plan = self.project.synthesis_plan(domain)
            for shard, personas in self._offered(plan, hubs).items():
                synthesize(domain, personas, plan, self, shard)

    def answers(
        self, requests: Iterable[ChatRequest], *, shard: str, stage: str
    ) -> dict[str, Answer]:
        """As the gateway's; what is missing is counted and made up."""
        del shard, stage
        wanted = {request.call_key: request for request in requests}
        known = self.project.store.answers(list(wanted)) | self.journal.index.find_all(wanted)
        for key, request in wanted.items():
            if key not in self.seen:
                self.seen.add(key)
                self._count(request, is_bought=key in known)
        return {key: known.get(key) or _made_up(request) for key, request in wanted.items()}

    def _rehearse(
        self, shard: str, number: int, documents: pl.DataFrame, everyone: pl.DataFrame
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The shard's hub, and all candidates so far."""
        asking = self.project.persona_plan(TEXT_TO_PERSONA)
        relating = self.project.persona_plan(PERSONA_TO_PERSONA)
        extracted = text_to_persona(documents, asking, self, shard).tables["personas.extracted"]
        if self.is_made_up:  # in words that no language has
            relating = replace(relating, language=None)
        related = persona_to_persona(extracted, relating, self, shard).tables["personas.related"]
        judged = apply_quality_rules(extracted, related, relating, shard)
        candidates = judged.tables["personas.candidates"]
        self._embed(candidates, shard)
        number_and_quality = pl.lit(number, pl.Int64).alias("shard_number"), quality(candidates)
        ranked = candidates.with_columns(number_and_quality).select(everyone.columns)
        everyone = pl.concat([everyone, ranked])
        return candidates.join(self._duplicates(everyone), on="persona_id", how="anti"), everyone

    def _offered(
        self, plan: SynthesisPlan, hubs: Mapping[str, pl.DataFrame]
    ) -> Mapping[str, pl.DataFrame]:
        """By shard, the rehearsed hub, or what a selection holds of it or may come to hold."""
        if plan.selection is None:
            return hubs
        if selected_count(self.project.store, plan.selection):
            return {shard: read_personas(self.project.store, plan, shard) for shard in hubs}
        count = self.project.settings.selections[plan.selection].count
        if count is None:
            return hubs
        ids = sorted(name for hub in hubs.values() for name in hub["persona_id"])
        chosen = ids[: round(count * self.share)]  # ids are hashes: people from everywhere
        return {s: hub.filter(pl.col("persona_id").is_in(chosen)) for s, hub in hubs.items()}

    def _duplicates(self, everyone: pl.DataFrame) -> pl.DataFrame:
        settings = self.project.settings
        vectors = self.project.store.query(VECTORS_SQL, {"model": settings.embedding_model})
        vectors = vectors.join(everyone, on="persona_id", how="semi")
        plan = self.project.dedup_plan
        duplicates = find_duplicates(
            everyone,
            vectors,
            id="persona_id",
            text="persona",
            rank="shard_number",
            quality="quality",
            thresholds=plan.thresholds,
            comparison=plan.comparison,
            resources=plan.resources,
        )
        return duplicates.removed

    def _embed(self, candidates: pl.DataFrame, shard: str) -> None:
        model = self.project.settings.embedding_model
        if self.project.settings.needs_vectors and not runs_here(model):
            requests = [embedding_request(model, text) for text in candidates["persona"]]
            self.answers(requests, shard=shard, stage=EMBEDDINGS)

    def _count(self, request: ChatRequest, *, is_bought: bool) -> None:
        row = self.stages.setdefault(request.stage, StageEstimate(request.stage, request.model))
        if is_bought:
            row.reused += 1
            return
        self.is_made_up = True
        tokens_in = _bytes_of(request) // BYTES_PER_TOKEN
        mean_out, mean_seconds = self.past.get((request.stage, request.model), (None, None))
        tokens_out = round(mean_out or UNKNOWN_LENGTH * request.sampling.max_tokens)
        in_batches = is_batched(self.project.settings, request.model)
        price: Price | None = price_of(request.model, self.project.settings.prices)
        price = price.in_batches() if price and in_batches else price
        row.calls += 1
        row.tokens_in += tokens_in
        row.tokens_out += tokens_out
        row.usd = known_sum([row.usd, price.cost(tokens_in, 0, tokens_out) if price else None])
        seconds = (
            mean_seconds / _at_once(request.model, self.project.settings) if mean_seconds else None
        )
        if in_batches:  # up to a day
            seconds = None
        row.seconds = known_sum([row.seconds, seconds])

    def _past(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Mean tokens out and seconds of the answers so far, by stage and model."""
        rows = self.project.store.query(USUAL_ANSWER_SQL).iter_rows()
        return {(stage, model): (tokens, seconds) for stage, model, tokens, seconds in rows}


def _made_up(request: ChatRequest) -> Answer:
    return Answer(request.call_key, request.model, "ok", instance_of_schema(request), None)


def _at_once(model: str, settings: Settings) -> int:
    """Calls in flight: the embedded model has two slots; a server is known when it was asked."""
    return SLOTS if model.startswith("embedded/") else min(settings.max_concurrency, USUAL_SLOTS)


def _bytes_of(request: ChatRequest) -> int:
    return sum(len(message["content"].encode("utf-8", "replace")) for message in request.messages)


def _scaled(stage: StageEstimate, factor: float) -> StageEstimate:
    return StageEstimate(
        stage.stage,
        stage.model,
        round(stage.reused * factor),
        round(stage.calls * factor),
        round(stage.tokens_in * factor),
        round(stage.tokens_out * factor),
        None if stage.usd is None else stage.usd * factor,
        None if stage.seconds is None else stage.seconds * factor,
    )
