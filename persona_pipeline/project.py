"""Open a project: its settings, its data, and what each package takes from them.

The command line, Dagster and notebooks open a project and hand out its parts. No package below
reads settings. A command imports only what it uses: importing every package takes 1.2 CPU-seconds,
a query on the snapshot 0.5.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_pipeline.errors import PipelineError, SettingsError, StoreError, unknown_choice
from persona_pipeline.settings import Settings, load_settings
from persona_pipeline.stage_names import PERSONA_TO_PERSONA, TEXT_TO_PERSONA

if TYPE_CHECKING:
    import polars as pl

    from persona_pipeline.corpus.options import CorpusOptions
    from persona_pipeline.corpus.registration import SourcePlan
    from persona_pipeline.hub.plan import DedupPlan
    from persona_pipeline.llm.gateway.gateway import Gateway
    from persona_pipeline.personas.plan import PersonaPlan
    from persona_pipeline.store.done_steps import Step, Undone
    from persona_pipeline.store.store import Store
    from persona_pipeline.synthesis.domain import Domain
    from persona_pipeline.synthesis.records import SynthesisPlan

PERSONA_STAGES = (TEXT_TO_PERSONA, PERSONA_TO_PERSONA)
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Project:
    """A data directory and its settings. Each part is made when it is first used.

    Attributes:
        settings: every setting, as `load_settings` reads them.
    """

    settings: Settings

    def __repr__(self) -> str:
        """Name the data directory only: settings may hold a key."""
        return f"Project(data_dir={str(self.settings.data_dir)!r})"

    @cached_property
    def database(self) -> "Store":
        """The database as it is. It is neither created nor migrated."""
        from persona_pipeline.store.store import Store  # noqa: PLC0415

        settings = self.settings
        return Store(settings.database, settings.snapshot, lock_timeout=settings.lock_timeout)

    @cached_property
    def store(self) -> "Store":
        """The database, migrated, with the answers that interrupted runs left in the journal.

        Raises:
            StoreError: a newer program wrote the file, or another process holds it.
        """
        from persona_pipeline.llm.gateway.journal import Journal  # noqa: PLC0415

        store = self.database
        store.migrate()
        with Journal(self.settings.journal_dir) as journal:
            if left := journal.to_commit():
                store.replace([], left, run_id="journal")
                journal.committed()
                store.publish()
        return store

    @cached_property
    def published(self) -> "Store":
        """The published snapshot, to read from. No run holds it."""
        from persona_pipeline.store.store import Store  # noqa: PLC0415

        return Store(self.settings.snapshot, self.settings.snapshot)

    @cached_property
    def domains(self) -> dict[str, "Domain"]:
        """The chosen domains by name, with the options that the settings allow.

        Raises:
            SettingsError: a setting names an unknown domain, stage or selection.
        """
        return self.settings.load_domains()

    @property
    def corpus_options(self) -> "CorpusOptions":
        """The fields and the limits that texts are read with."""
        from persona_pipeline.corpus.options import CorpusOptions  # noqa: PLC0415

        settings = self.settings
        return CorpusOptions(
            text_field=settings.text_field,
            url_field=settings.url_field,
            title_field=settings.title_field,
            language_field=settings.language_field,
            license_field=settings.license_field,
            min_chars=settings.min_chars,
            max_chars=settings.max_chars,
            sample_by=settings.sample_by,
        )

    @property
    def source_plan(self) -> "SourcePlan":
        """The configured source, how much of it is read, and the size of its shards."""
        from persona_pipeline.corpus.registration import SourcePlan  # noqa: PLC0415
        from persona_pipeline.llm.requests import runs_here  # noqa: PLC0415

        settings = self.settings
        return SourcePlan(
            source=settings.source,
            options=self.corpus_options,
            shard_size=settings.shard_size,
            limit=settings.documents,
            may_exceed_limit=runs_here(settings.model),
        )

    @cached_property
    def dedup_plan(self) -> "DedupPlan":
        """The thresholds, method, vectors and resources that personas are deduplicated with."""
        from persona_pipeline.dedup.resources import Resources  # noqa: PLC0415
        from persona_pipeline.dedup.rules import Comparison, Thresholds  # noqa: PLC0415
        from persona_pipeline.dedup.words.set_cache import SetCache  # noqa: PLC0415
        from persona_pipeline.hub.plan import DedupPlan  # noqa: PLC0415

        settings = self.settings
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

    def persona_plan(self, stage: str) -> "PersonaPlan":
        """Return what a persona stage asks its model for.

        Args:
            stage: `text_to_persona` or `persona_to_persona`.

        Raises:
            SettingsError: there is no such persona stage.
        """
        from persona_pipeline.personas.plan import PersonaPlan  # noqa: PLC0415

        if stage not in PERSONA_STAGES:
            raise SettingsError(unknown_choice("persona stage", stage, PERSONA_STAGES))

        settings = self.settings
        return PersonaPlan(
            model=settings.models_for(stage)[0],
            verbs=tuple(settings.verbs),
            granularity=settings.granularity,
            document_chars=settings.document_chars,
            hops=settings.hops,
            fan_out=settings.fan_out,
            language=settings.language,
            options=settings.request_options,
        )

    def synthesis_plan(self, domain: "Domain") -> "SynthesisPlan":
        """Return what a domain asks its model for.

        Args:
            domain: one of `domains`.
        """
        from persona_pipeline.synthesis.records import SynthesisPlan  # noqa: PLC0415
        from persona_pipeline.synthesis.tables import table_name  # noqa: PLC0415

        settings = self.settings
        return SynthesisPlan(
            model=settings.models_for(table_name(domain))[0],
            prompting=settings.prompting,
            records_per_shard=settings.records_per_shard,
            selection=settings.persona_sources.get(domain.name),
            options=settings.request_options,
        )

    @cached_property
    def steps(self) -> dict[str, "Step"]:
        """The steps that every shard goes through, by name, in their order."""
        from persona_pipeline.steps import Plans, steps_of_shard  # noqa: PLC0415

        domains = [(domain, self.synthesis_plan(domain)) for domain in self.domains.values()]
        personas = {stage: self.persona_plan(stage) for stage in PERSONA_STAGES}
        return steps_of_shard(Plans(self.settings, personas, self.dedup_plan, domains))

    def undone_steps(
        self,
        shards: Sequence[str],
        steps: Iterable[str] | None = None,
        store: "Store | None" = None,
    ) -> dict[str, dict[str, "Undone"]]:
        """Tell which steps of the shards a run has to do.

        Args:
            shards: the names of registered shards.
            steps: the names of the steps that are asked about; None: all.
            store: the database, if it is opened already.

        Returns:
            For each shard, why a step is to do, by the step's name, in the order of the steps. A
            shard with nothing to do has no step.
        """
        from persona_pipeline.steps import undone_steps  # noqa: PLC0415
        from persona_pipeline.store.done_steps import Reason, Undone  # noqa: PLC0415

        named = [self.steps[name] for name in (self.steps if steps is None else steps)]
        if self.settings.force:
            return {shard: {step.name: Undone(Reason.FORCED) for step in named} for shard in shards}
        return undone_steps(store or self.store, named, self.dedup_plan, shards)

    def undone_shards(self, shards: Sequence[str]) -> list[str]:
        """List those of the registered shards that have a step to do, in their order."""
        return [shard for shard, steps in self.undone_steps(shards).items() if steps]

    def query(self, sql: str, **parameters: object) -> "pl.DataFrame":
        """Return the rows of one SELECT on the newest snapshot. No run is blocked.

        Args:
            sql: for example `from marts.funnel`, or `from personas.hub where shard = $shard`.
            parameters: the values of the statement's `$names`.

        Returns:
            A polars frame with the columns of the statement.

        Raises:
            PipelineError: nothing has been run yet.
            duckdb.Error: DuckDB does not accept the statement.
        """
        from persona_pipeline.sql import fetch, open_duckdb  # noqa: PLC0415

        with open_duckdb(self.newest_snapshot(), read_only=True) as connection:
            return fetch(connection, sql, parameters)

    @contextmanager
    def open_gateway(self, stage: str = "") -> Iterator["Gateway"]:
        """Open a gateway, which answers requests from the stored answers or from the models.

        Every answer that is bought goes into the journal at once and is never bought again. The
        caps of the settings hold from opening to closing the gateway.

        Args:
            stage: the stage that is asked for, such as `text_to_persona` or `synthetic.math`: its
                fallback models are asked. Default: those of stages without models of their own.

        Yields:
            The gateway.

        Raises:
            ModelError: a model cannot be used, or has no known price under a cap in USD.
        """
        from persona_pipeline.models import check_prices, open_gateway  # noqa: PLC0415

        check_prices(self.settings)
        with open_gateway(self.settings, self.store, stage) as gateway:
            yield gateway

    def unmade_selections(self) -> list[str]:
        """Return the selections that chosen domains draw from and that hold no persona, sorted."""
        from persona_pipeline.hub.selection import selected_count  # noqa: PLC0415

        drawn = self.settings.drawn_selections()
        return sorted(name for name in drawn if not selected_count(self.store, name))

    def newest_snapshot(self) -> Path:
        """Return the path of the snapshot. What a killed run left unpublished is published first.

        Raises:
            PipelineError: nothing has been run yet.
        """
        settings = self.settings
        if settings.database.is_file():
            try:
                self._publish_at_once()
            except StoreError as error:  # a run is writing, and will publish at its end
                LOG.info("%s", error)
        if not settings.snapshot.is_file():
            msg = f"there is no {settings.snapshot} yet: run 'persona-pipeline run' first"
            raise PipelineError(msg)
        return settings.snapshot

    def _publish_at_once(self) -> None:
        """Publish without waiting for a process that holds the database."""
        from persona_pipeline.store.snapshot import is_published  # noqa: PLC0415

        settings = self.settings
        if is_published(settings.database, settings.snapshot):
            return
        from persona_pipeline.store.store import Store  # noqa: PLC0415

        Store(settings.database, settings.snapshot, lock_timeout=0).publish()

    def require_database(self) -> None:
        """Check that the database exists.

        Raises:
            PipelineError: nothing has been run yet; the message says what to do.
        """
        if not self.settings.database.is_file():
            msg = f"there is no {self.settings.database} yet: run 'persona-pipeline run' first"
            raise PipelineError(msg)


def open_project(**settings: Any) -> Project:  # noqa: ANN401 - any setting
    """Open a project. Nothing is written before one of its parts is used.

    Args:
        settings: any settings by name, such as `data_dir="data"`. They win over the environment
            and the file, where `load_settings` reads the other settings.

    Returns:
        The project.

    Raises:
        SettingsError: a setting is unknown or wrong; the message names it and its choices.
    """
    return Project(load_settings(**settings))
