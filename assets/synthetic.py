"""Group `synthetic`: one asset per domain, made from its `domain.yaml`."""

from collections.abc import Sequence

import dagster as dg
from pydantic_core import to_jsonable_python

from assets.metadata.tables import Metadata
from assets.resources import Models, StoreResource
from assets.shard_assets import AT_ONCE, OWNERS, SHARDS, refresh_condition, some_at_once
from assets.shard_runs import Results, run_shards
from assets.stage_run import StageRun
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.hashing import canonical_json, stable_id
from persona_pipeline.locks import exclusive_lock
from persona_pipeline.project import synthesis_plan
from persona_pipeline.settings import Settings
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.duplicates import STAGE, deduplicate_records
from persona_pipeline.synthesis.records import read_personas, synthesize
from persona_pipeline.synthesis.tables import add_domain_table, table_name

RECORDS_VERSION = 1
"""Of what the code versions below hash."""


def build_synthetic_assets(
    settings: Settings, domains: Sequence[Domain]
) -> Sequence[dg.AssetsDefinition]:
    """One asset per domain, and what of their records says the same."""
    return [
        *(_build_domain_asset(settings, domain) for domain in domains),
        _build_duplicates_asset(settings, domains),
    ]


def _build_domain_asset(settings: Settings, domain: Domain) -> dg.AssetsDefinition:
    plan, table = synthesis_plan(settings, domain), table_name(domain)
    version = stable_id(
        *(RECORDS_VERSION, domain.prompt.version, plan.model, plan.prompting),
        canonical_json(to_jsonable_python([domain.file.options, plan.selection])),
    )

    @dg.asset(
        key=["synthetic", domain.name],
        deps=[["personas", "hub"], *([["personas", "selections"]] if plan.selection else [])],
        group_name="synthetic",
        kinds={"llm", "duckdb"},
        owners=OWNERS,
        partitions_def=SHARDS,
        backfill_policy=some_at_once(settings),
        code_version=version[:12],
        description=f"{domain.file.title}. {domain.file.description}",
    )
    def records(
        context: dg.AssetExecutionContext, duckdb: StoreResource, models: dg.ResourceParam[Models]
    ) -> Results:
        def write(run: StageRun) -> Metadata:
            add_domain_table(run.store, domain)
            personas = read_personas(run.store, plan, run.shard)
            rows = synthesize(domain, personas, plan, run.gateway(models, table), run.shard)
            spent = run.commit([rows])
            return {"rejected": len(rows.tables["synthetic.rejected"]), **spent}

        yield from run_shards(context, duckdb, settings, [table], write)

    return records


def _build_duplicates_asset(settings: Settings, domains: Sequence[Domain]) -> dg.AssetsDefinition:
    rules = {domain.name: domain.file.dedup.version_fields() for domain in domains}
    version = stable_id(
        RECORDS_VERSION, canonical_json(to_jsonable_python([rules, settings.record_thresholds]))
    )

    @dg.asset(
        key=["synthetic", "duplicates"],
        deps=[["synthetic", domain.name] for domain in domains],
        group_name="synthetic",
        kinds={"numba", "duckdb"},
        owners=OWNERS,
        partitions_def=SHARDS,
        backfill_policy=AT_ONCE,
        automation_condition=refresh_condition(),
        code_version=version[:12],
    )
    def duplicates(context: dg.AssetExecutionContext, duckdb: StoreResource) -> Results:
        """One row is one record that says what a kept one says: in words, or by its signature.

        The views `synthetic.records` and `marts.*` leave it out; its domain's table has it.
        """
        resources = Resources(settings.dedup_memory, settings.dedup_threads)

        def decide(run: StageRun) -> Metadata:
            for domain in domains:
                add_domain_table(run.store, domain)
            thresholds = settings.record_thresholds
            with exclusive_lock(settings.locks_dir / STAGE):
                matches = deduplicate_records(run.store, domains, thresholds, run.shard, resources)
                run.commit(matches)
            return {}

        yield from run_shards(context, duckdb, settings, ["synthetic.duplicates"], decide)

    return duplicates
