"""Group `synthetic`: one asset per domain, made from its `domain.yaml`."""

from collections.abc import Sequence

import dagster as dg

from assets.resources import Models, StoreResource
from assets.stage_runs import OWNERS, SHARDS, describe_table, stage_run
from persona_pipeline.domains.spec import Domain
from persona_pipeline.hashing import stable_id
from persona_pipeline.settings import Settings
from persona_pipeline.sql_files import read_sql
from persona_pipeline.synthesis import synthesis_plan, synthesize, table_columns, table_name


def build_synthetic_assets(
    settings: Settings, domains: Sequence[Domain]
) -> Sequence[dg.AssetsDefinition]:
    """One asset per domain."""
    return [_build_domain_asset(settings, domain) for domain in domains]


def _build_domain_asset(settings: Settings, domain: Domain) -> dg.AssetsDefinition:
    plan = synthesis_plan(settings, domain)
    version = stable_id(domain.prompt.version, plan.model, plan.prompting, str(domain.file.options))

    @dg.asset(
        key=["synthetic", domain.name],
        deps=[["personas", "hub"]],
        group_name="synthetic",
        kinds={"llm", "duckdb"},
        owners=OWNERS,
        partitions_def=SHARDS,
        code_version=version[:12],
        description=f"{domain.file.title}. {domain.file.description}",
    )
    def records(
        context: dg.AssetExecutionContext, duckdb: StoreResource, models: dg.ResourceParam[Models]
    ) -> dg.MaterializeResult[None]:
        with stage_run(context, duckdb, settings) as run:
            run.store.add_table(table_name(domain), table_columns(domain))
            personas = run.read(read_sql("personas/hub_of_shard"))
            rows = synthesize(
                domain, personas, plan, run.buyer(models, table_name(domain)), run.shard
            )
            spent = run.commit([rows])
            table = describe_table(run.store, table_name(domain), run.shard)
        rejected = {"rejected": len(rows.tables["synthetic.rejected"])}
        return dg.MaterializeResult(metadata={**rejected, **spent, **table})

    return records
