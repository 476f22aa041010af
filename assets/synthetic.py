"""Build the assets of group `synthetic`: one per domain, from its `domain.yaml`."""

from collections.abc import Sequence

import dagster as dg
from pydantic_core import to_jsonable_python

from assets.metadata.tables import Metadata
from assets.shard_assets import shard_asset, shard_table
from assets.stage_run import StageRun
from persona_pipeline.hashing import canonical_json, stable_id
from persona_pipeline.locks import exclusive_lock
from persona_pipeline.project import Project
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.duplicates import STAGE, deduplicate_records
from persona_pipeline.synthesis.records import read_personas, synthesize
from persona_pipeline.synthesis.tables import add_domain_table, table_name

RECORDS_VERSION = 1
"""Version of the way in which the code versions below are made."""


def build_synthetic_assets(project: Project) -> Sequence[dg.AssetsDefinition]:
    """Build one asset per domain, and the one that deduplicates their records."""
    domains = list(project.domains.values())
    return [
        *(_domain_asset(project, domain) for domain in domains),
        _duplicates_asset(project, domains),
    ]


def _domain_asset(project: Project, domain: Domain) -> dg.AssetsDefinition:
    plan, table = project.synthesis_plan(domain), table_name(domain)
    version = stable_id(
        *(RECORDS_VERSION, domain.prompt.version, plan.model, plan.prompting),
        canonical_json(to_jsonable_python([domain.file.options, plan.selection])),
        *plan.options.version(plan.model, table),
    )

    sources = ["personas/hub", *(["personas/selections"] if plan.selection else [])]
    spec = shard_table(
        f"synthetic/{domain.name}",
        deps=sources,
        kinds={"llm"},
        code_version=version,
        description=f"{domain.file.title}. {domain.file.description}",
    )

    @shard_asset(project, table, spec, buys=True)
    def records(run: StageRun) -> Metadata:
        add_domain_table(run.store, domain)
        personas = read_personas(run.store, plan, run.shard)
        rows = synthesize(domain, personas, plan, run.gateway(table), run.shard)
        usage = run.commit([rows])
        return {"rejected": len(rows.tables["synthetic.rejected"]), **usage}

    return records


def _duplicates_asset(project: Project, domains: Sequence[Domain]) -> dg.AssetsDefinition:
    settings = project.settings
    rules = {domain.name: domain.file.dedup.version_fields() for domain in domains}
    version = stable_id(
        RECORDS_VERSION, canonical_json(to_jsonable_python([rules, settings.record_thresholds]))
    )

    spec = shard_table(
        "synthetic/duplicates",
        deps=[f"synthetic/{domain.name}" for domain in domains],
        kinds={"numba"},
        code_version=version,
    )

    @shard_asset(project, STAGE, spec)
    def duplicates(run: StageRun) -> Metadata:
        """One row is one record that duplicates a kept one, by its words or by its signature.

        The views `synthetic.records` and `marts.*` leave it out. Its domain's table keeps it.
        """
        for domain in domains:
            add_domain_table(run.store, domain)
        thresholds, resources = settings.record_thresholds, project.dedup_plan.resources
        with exclusive_lock(settings.locks_dir / STAGE):
            rows = deduplicate_records(run.store, domains, thresholds, run.task.due, resources)
            run.commit(rows)
        return {}

    return duplicates
