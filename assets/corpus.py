"""Build the assets of group `corpus`: the shards of a source, and their documents."""

from collections.abc import Sequence

import dagster as dg

from assets.metadata.tables import Metadata, as_markdown, describe_table
from assets.resources import StoreResource
from assets.shard_assets import OWNERS, REGISTERED, add_shards, shard_asset, shard_table
from assets.stage_run import StageRun
from persona_pipeline.corpus.addresses import redact
from persona_pipeline.corpus.registration import register_source
from persona_pipeline.corpus.shards import load_shard
from persona_pipeline.corpus.watching import ingest, scan
from persona_pipeline.errors import SourceError
from persona_pipeline.project import Project
from persona_pipeline.sql import read_sql
from persona_pipeline.stage_names import CORPUS

FILES = ["corpus", "files"]
SOURCES = ["corpus/shards", "corpus/files"]
LOADED = {
    "documents": "One row is one accepted document: a text with its URL and licence.",
    "rejected": "One row is one rejected text: its file, line and reason.",
}


def build_corpus_assets(project: Project) -> Sequence[dg.AssetsDefinition]:
    """Build the assets of the corpus."""
    return [_shards_asset(project), _files_asset(project), _documents_asset(project)]


def _shards_asset(project: Project) -> dg.AssetsDefinition:
    settings = project.settings

    @dg.asset(
        key=["corpus", "shards"], group_name="corpus", kinds={"python", "duckdb"}, owners=OWNERS
    )
    def shards(
        context: dg.AssetExecutionContext, duckdb: StoreResource
    ) -> dg.MaterializeResult[None]:
        """One row is one shard: a batch of documents of the configured source, staged on disk.

        Materialize it to register what the source holds now. The shards are the partitions of all
        assets after it.
        """
        duckdb.store.migrate()
        names = register_source(
            project.source_plan, settings, duckdb.store, run_id=context.run.run_id
        )
        add_shards(context.instance, duckdb.store)
        context.log.info("registered %s of source %s", ", ".join(names), redact(settings.source))
        skipped = duckdb.store.query(read_sql("corpus/skipped_by_reason"), {"shards": names})
        without_page = {} if skipped.is_empty() else {"without_a_page": as_markdown(skipped)}
        return dg.MaterializeResult(
            data_version=REGISTERED,
            metadata={
                **describe_table(duckdb.store, "corpus.shards"),
                "registered": names,
                **without_page,
            },
        )

    return shards


def _documents_asset(project: Project) -> dg.AssetsDefinition:
    folder = project.settings.staging_dir
    tables = [
        shard_table(f"corpus/{name}", deps=SOURCES, kinds=(), description=description)
        for name, description in LOADED.items()
    ]

    @shard_asset(project, CORPUS, *tables, name="corpus", refreshes=False)
    def corpus(run: StageRun) -> Metadata:
        staged = run.read("select staged_file from corpus.shards where shard = $shard")
        if staged.is_empty():
            msg = (
                f"shard {run.shard} is not in {run.store.path}: materialize corpus/shards "
                "first (or run 'persona-pipeline run') with the settings of that source"
            )
            raise dg.Failure(msg)
        run.commit([load_shard(run.shard, folder / staged["staged_file"][0])])
        return {}

    return corpus


def _files_asset(project: Project) -> dg.AssetsDefinition:
    settings = project.settings

    @dg.asset(key=FILES, group_name="corpus", kinds={"python", "duckdb"}, owners=OWNERS)
    def files(
        context: dg.AssetExecutionContext, duckdb: StoreResource
    ) -> dg.MaterializeResult[None]:
        """One row is one file of a watched place: whether it is new, grown, changed or gone.

        Materialize it to ingest new texts now. The sensor `inbox` does so by itself. New texts
        become shards of their own, and existing shards stay as they are.
        """
        store = duckdb.store
        store.migrate()
        registered, problems = list[str](), list[str]()
        try:
            for place in settings.watch:
                try:
                    seen = scan(store, place)
                    if not seen.is_idle:
                        registered += ingest(
                            store,
                            seen,
                            settings,
                            options=project.corpus_options,
                            shard_size=settings.shard_size,
                            run_id=context.run.run_id,
                        )
                except SourceError as error:
                    problems.append(str(error))
        finally:
            add_shards(context.instance, store)
        if problems:
            raise dg.Failure("; ".join(problems), allow_retries=False)
        states = store.query("select state, count(*) as files from corpus.files group by state")
        return dg.MaterializeResult(
            data_version=REGISTERED,
            metadata={
                **describe_table(store, "corpus.files"),
                "states": as_markdown(states.sort("state")),
                "registered": registered,
            },
        )

    return files
