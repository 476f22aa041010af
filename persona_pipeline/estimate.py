"""Estimate what a run will buy, by a rehearsal on the real prompts.

Every stage runs as in a real run, but writes nothing to the database. Answers that were bought
before are used, so a run with nothing left to buy is estimated at 0. A made-up answer replaces each
missing one, and its request is counted. The later stages ask about made-up personas, so their
counts are close to the real ones, not equal.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import polars as pl

from persona_pipeline.corpus.shards import check_documents, load_shard
from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.errors import PipelineError
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
"""Most documents that are rehearsed in whole shards. Of more, every second, third, ... shard is:
shards are bought in their order, so the sample is spread over all."""
SAMPLED = 200
"""Documents of a shard that are rehearsed if nothing was bought for it: they stand for the rest.
1,000 took a sixth of their run. If some answers are there, a few do not tell which are missing."""
BYTES_PER_TOKEN = 4
"""Bytes of English text per token: the rule of thumb of OpenAI's tokenizer guide."""
USUAL_SLOTS = 32
"""Calls in flight that most servers accept. The rate limiter starts there, too."""
UNKNOWN_LENGTH = 0.4
"""Share of the allowed answer's tokens that is used, if no earlier answer shows it."""

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

BEGUN_SQL: Final = """
-- One row per shard that something was bought for.
-- reads: llm.calls
select distinct shard
from llm.calls
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


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage will buy from one model.

    Attributes:
        stage: the name of the stage.
        model: the name of the model.
        reused: number of answers that were bought before.
        calls: number of answers to buy.
        tokens_in: tokens of the requests to send.
        tokens_out: tokens of the answers to buy.
        usd: price in USD; None: a price is unknown.
        seconds: time that the calls take; None: unknown.
    """

    stage: str
    model: str
    reused: int
    calls: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will buy.

    Attributes:
        stages: one estimate per stage, in the order of the run.
        share: share of the documents that are rehearsed, from 0 to 1.
    """

    stages: list[StageEstimate]
    share: float

    @property
    def calls(self) -> int:
        """Number of answers to buy in all stages."""
        return sum(stage.calls for stage in self.stages)

    @property
    def tokens(self) -> int:
        """Tokens of requests and answers in all stages."""
        return sum(stage.tokens_in + stage.tokens_out for stage in self.stages)

    @property
    def usd(self) -> float | None:
        """Price of all stages in USD; None: a price is unknown."""
        return known_sum(stage.usd for stage in self.stages)

    @property
    def seconds(self) -> float | None:
        """Time of all calls in seconds; None: a model's speed is not known yet."""
        return known_sum(stage.seconds for stage in self.stages)


def estimate_run(
    project: Project, shards: Sequence[str], undone: Collection[str] | None = None
) -> Estimate:
    """Estimate what a run over registered shards will buy. No model is asked.

    Args:
        project: the data and the settings of the run.
        shards: the names of registered shards, in the order of the run.
        undone: those that have a step to do; None: all. Others are left out: they buy nothing. So
            personas that duplicate one of theirs are not foreseen.

    Returns:
        The calls, tokens, USD and seconds of each stage. They are scaled up from a sample: of the
        shards, if there are more than 2,000 documents, and of a shard that nothing was bought for.

    Raises:
        PipelineError: a shard is not registered, or none holds a document; says what to do.
    """
    listed = project.store.query(STAGED_FILES_SQL, {"shards": shards})
    files = {shard: (name, rows) for shard, name, rows in listed.iter_rows()}
    if unknown := [shard for shard in shards if shard not in files]:
        msg = (
            f"shard {unknown[0]!r} is not in {project.settings.database}: materialize "
            "corpus/shards, or run 'persona-pipeline run', with the settings of its source"
        )
        raise PipelineError(msg)
    folder = project.settings.staging_dir
    staged = [(shard, folder / files[shard][0], files[shard][1]) for shard in shards]
    check_documents([path for _, path, _ in staged])
    return _estimate(project, [row for row in staged if undone is None or row[0] in undone])


def estimate_staged(project: Project, staged: Sequence[tuple[str, Path, int]]) -> Estimate:
    """Estimate what a run over staged shards will buy.

    Args:
        project: the data and the settings of the run.
        staged: the name, Parquet file and number of rows of each shard, in the order of the run.

    Raises:
        SourceError: no shard holds a document.
    """
    check_documents([path for _, path, _ in staged])
    return _estimate(project, staged)


def _estimate(project: Project, staged: Sequence[tuple[str, Path, int]]) -> Estimate:
    total = sum(rows for _, _, rows in staged)
    chosen = staged[:: max(1, total // REHEARSED)]
    share = sum(rows for _, _, rows in chosen) / total if total else 1.0
    with Journal(project.settings.journal_dir) as journal:
        journal.index.refresh()
        rehearsal = _Rehearsal(project, journal, share)
        rehearsal.run({shard: path for shard, path, _ in chosen})
    stages = [stage.scaled(1 / share) for stage in rehearsal.stages.values()]
    return Estimate(stages, share * rehearsal.sampled_share)


@dataclass
class _Sums:
    """What was rehearsed of a stage; each request counts as often as its weight says."""

    stage: str
    model: str
    reused: float = 0.0
    calls: float = 0.0
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    usd: float | None = 0.0
    seconds: float | None = 0.0

    def scaled(self, factor: float) -> StageEstimate:
        """Return the estimate of `factor` times as many documents."""
        reused, calls = round(self.reused * factor), round(self.calls * factor)
        tokens_in, tokens_out = round(self.tokens_in * factor), round(self.tokens_out * factor)
        usd = None if self.usd is None else self.usd * factor
        seconds = None if self.seconds is None else self.seconds * factor
        return StageEstimate(
            self.stage, self.model, reused, calls, tokens_in, tokens_out, usd, seconds
        )


@dataclass
class _Rehearsal:
    """Answer requests in the gateway's place: with what was bought, or with made-up answers."""

    project: Project
    journal: Journal
    share: float
    """Share of the documents that are in rehearsed shards."""
    stages: dict[str, _Sums] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    is_made_up: bool = False
    sampled_share: float = 1.0
    """Share of the documents of the rehearsed shards that were rehearsed, from 0 to 1."""
    weight: float = 1.0
    """Requests that one rehearsed request stands for."""
    past: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def run(self, staged: Mapping[str, Path]) -> None:
        """Rehearse whole shards in their order, since a duplicate has its keeper before it."""
        self.past = self._past()
        everyone = pl.DataFrame(schema=RANKED)
        hubs: dict[str, pl.DataFrame] = {}
        begun = {shard for (shard,) in self.project.store.query(BEGUN_SQL).iter_rows()}
        weights, accepted, sampled = dict[str, float](), 0, 0
        for number, (shard, path) in enumerate(staged.items()):
            documents = load_shard(shard, path).tables["corpus.documents"]
            sample = documents if shard in begun else self._sample(documents)
            accepted, sampled = accepted + len(documents), sampled + len(sample)
            self.weight = weights[shard] = len(documents) / len(sample) if len(sample) else 1.0
            hubs[shard], everyone = self._rehearse(shard, number, sample, everyone)
        self.sampled_share = sampled / accepted if accepted else 1.0
        for domain in self.project.domains.values():
            plan = self.project.synthesis_plan(domain)
            for shard, personas in self._offered(plan, hubs).items():
                self.weight = _weight_of_records(plan, len(personas), weights[shard])
                synthesize(domain, personas, plan, self, shard)

    def _sample(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Choose every second, third, ... document; all if domains draw from a selection."""
        if self.project.settings.drawn_selections():  # it is drawn from all shards together
            return documents
        return documents.gather_every(max(1, len(documents) // SAMPLED))

    def answers(
        self, requests: Iterable[ChatRequest], *, shard: str, stage: str
    ) -> dict[str, Answer]:
        """Return an answer per call key, as the gateway does; count and make up missing ones."""
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
        """Return the shard's hub, and the candidates of all shards so far."""
        asking = self.project.persona_plan(TEXT_TO_PERSONA)
        relating = self.project.persona_plan(PERSONA_TO_PERSONA)
        extracted = text_to_persona(documents, asking, self, shard).tables["personas.extracted"]
        if self.is_made_up:  # no language has the words of made-up answers
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
        """Return the personas that a domain may draw from, by shard.

        They are the rehearsed hub, or the part of it that a selection holds or may come to hold.
        """
        if plan.selection is None:
            return hubs
        if selected_count(self.project.store, plan.selection):
            return {shard: read_personas(self.project.store, plan, shard) for shard in hubs}
        count = self.project.settings.selections[plan.selection].count
        if count is None:
            return hubs
        ids = sorted(name for hub in hubs.values() for name in hub["persona_id"])
        chosen = ids[: round(count * self.share)]  # ids are hashes, so this samples all shards
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
        row = self.stages.setdefault(request.stage, _Sums(request.stage, request.model))
        if is_bought:
            row.reused += self.weight
            return
        self.is_made_up = True
        tokens_in = _bytes_of(request) // BYTES_PER_TOKEN
        mean_out, mean_seconds = self.past.get((request.stage, request.model), (None, None))
        tokens_out = round(mean_out or UNKNOWN_LENGTH * request.sampling.max_tokens)
        in_batches = is_batched(self.project.settings, request.model)
        price: Price | None = price_of(request.model, self.project.settings.prices)
        price = price.in_batches() if price and in_batches else price
        row.calls += self.weight
        row.tokens_in += self.weight * tokens_in
        row.tokens_out += self.weight * tokens_out
        usd = self.weight * price.cost(tokens_in, 0, tokens_out) if price else None
        row.usd = known_sum([row.usd, usd])
        seconds = None
        if mean_seconds and not in_batches:  # which take up to a day
            at_once = _at_once(request.model, self.project.settings)
            seconds = self.weight * mean_seconds / at_once
        row.seconds = known_sum([row.seconds, seconds])

    def _past(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Return the mean tokens and seconds of the answers so far, by stage and model."""
        rows = self.project.store.query(USUAL_ANSWER_SQL).iter_rows()
        return {(stage, model): (tokens, seconds) for stage, model, tokens, seconds in rows}


def _weight_of_records(plan: SynthesisPlan, sampled: int, weight: float) -> float:
    """Return how many records one of a shard's sampled personas stands for."""
    most = plan.records_per_shard
    if most is None or not sampled:
        return weight
    return min(most, sampled * weight) / min(most, sampled)


def _made_up(request: ChatRequest) -> Answer:
    return Answer(request.call_key, request.model, "ok", instance_of_schema(request), None)


def _at_once(model: str, settings: Settings) -> int:
    """Return how many calls are in flight; a server's real limit is known only from asking it."""
    return SLOTS if model.startswith("embedded/") else min(settings.max_concurrency, USUAL_SLOTS)


def _bytes_of(request: ChatRequest) -> int:
    return sum(len(message["content"].encode("utf-8", "replace")) for message in request.messages)
