"""Turn the settings into what each room takes; opened once per command or run."""

import logging
from pathlib import Path

from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.dedup.words.set_cache import SetCache
from persona_pipeline.errors import PipelineError, StoreError
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.selection import selected_count
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.personas.plan import PersonaPlan
from persona_pipeline.settings import Settings
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.records import SynthesisPlan
from persona_pipeline.synthesis.tables import table_name


def opened_store(settings: Settings) -> Store:
    """The store, with the answers that interrupted runs left in the journal."""
    store = open_store(settings)
    store.migrate()
    with Journal(settings.journal_dir) as journal:
        if left := journal.to_commit():
            store.replace([], left, run_id="journal")
            journal.committed()
            store.publish()
    return store


LOG = logging.getLogger(__name__)


def newest_snapshot(settings: Settings) -> Path:
    """Where it is; what a killed run left unpublished is published first.

    Raises:
        PipelineError: nothing has been run yet.
    """
    if settings.database.is_file():
        try:
            Store(settings.database, settings.snapshot, lock_timeout=0).publish()
        except StoreError as error:  # a run is writing, and publishes itself
            LOG.info("%s", error)
    if not settings.snapshot.is_file():
        msg = f"there is no {settings.snapshot} yet: run 'persona-pipeline run' first"
        raise PipelineError(msg)
    return settings.snapshot


def dedup_plan(settings: Settings) -> DedupPlan:
    """What the settings ask for."""
    thresholds = Thresholds(
        settings.jaccard_threshold, settings.cosine_threshold, settings.fuzzy_threshold
    )
    comparison = Comparison.for_thresholds(
        thresholds, settings.store_pairs_from, settings.dedup_method
    )
    return DedupPlan(
        thresholds=thresholds,
        comparison=comparison,
        embedding_model=settings.embedding_model,
        cache=SetCache(settings.dedup_dir, comparison.joined_from),
        resources=Resources(settings.dedup_memory, settings.dedup_threads),
    )


def persona_plan(settings: Settings, stage: str) -> PersonaPlan:
    """What the settings ask of a persona stage."""
    return PersonaPlan(
        model=settings.models_for(stage)[0],
        verbs=tuple(settings.verbs),
        granularity=settings.granularity,
        document_chars=settings.document_chars,
        hops=settings.hops,
        fan_out=settings.fan_out,
        language=settings.language,
    )


def corpus_options(settings: Settings) -> CorpusOptions:
    """How texts are read."""
    return CorpusOptions(
        text_field=settings.text_field,
        url_field=settings.url_field,
        min_chars=settings.min_chars,
        max_chars=settings.max_chars,
    )


def open_store(settings: Settings) -> Store:
    """The store of the data directory."""
    return Store(settings.database, settings.snapshot, lock_timeout=settings.lock_timeout)


def open_published(settings: Settings) -> Store:
    """The snapshot alone, to be read: no run holds it."""
    return Store(settings.snapshot, settings.snapshot)


def synthesis_plan(settings: Settings, domain: Domain) -> SynthesisPlan:
    """What the settings ask of a domain."""
    return SynthesisPlan(
        model=settings.models_for(table_name(domain))[0],
        prompting=settings.prompting,
        records_per_shard=settings.records_per_shard,
        selection=settings.persona_sources.get(domain.name),
    )


def unmade_selections(store: Store, settings: Settings) -> list[str]:
    """The selections that the chosen domains are to draw from, and that have nobody."""
    return sorted(name for name in settings.drawn_selections() if not selected_count(store, name))
