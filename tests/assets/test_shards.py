"""Test shards as partitions: several in a run, data versions, and reports after a failure."""

from itertools import product
from pathlib import Path

import dagster as dg

from tests.support.platform import Platform

KEYS = ["corpus/documents", "corpus/rejected", "personas/extracted", "personas/related"]
DECIDING = ["personas/candidates", "personas/embeddings", "personas/fingerprints"]
DECIDING += ["personas/pairs", "personas/duplicates", "personas/hub"]


def counts(platform: Platform, key: str) -> dict[str, object]:
    """Return the number of rows of each shard on the asset's page."""
    return {
        shard: event.asset_materialization.metadata["dagster/partition_row_count"].value
        for shard in platform.instance.get_materialized_partitions(dg.AssetKey(key.split("/")))
        if (
            event := platform.instance.get_latest_data_version_record(
                dg.AssetKey(key.split("/")), partition_key=shard
            )
        )
        and event.asset_materialization
    }


def test_several_shards_in_one_run_make_what_a_run_each_makes(
    tmp_path: Path, instance: dg.DagsterInstance, finished_platform: Platform
) -> None:
    source, keys = str(finished_platform.pages), [*KEYS, *DECIDING]
    platform = Platform(tmp_path, instance, source=source, shard_size=2)
    first, second = shards = platform.register()
    assert platform.materialize(*keys, shard=first, to=second).success

    for key in keys:
        table = key.replace("/", ".")
        assert platform.rows(table) == finished_platform.rows(table), key
    for key, shard in product(KEYS, shards):
        assert platform.version(key, shard) == finished_platform.version(key, shard), key


def test_every_shard_of_a_run_reports_its_own_rows_and_version(platform: Platform) -> None:
    platform.write_page("page4", "Page 4 is alone in the third shard, and tells of a ferry.")
    shards = first, _, third = platform.register()
    assert platform.materialize(*KEYS, shard=first, to=third).success
    assert counts(platform, "corpus/documents") == dict(zip(shards, [2, 2, 1], strict=True))
    assert counts(platform, "personas/extracted") == dict(zip(shards, [4, 4, 2], strict=True))
    versions = {platform.version("personas/extracted", shard) for shard in (first, third)}
    assert len(versions) == 2


def test_a_version_changes_with_the_rows_and_with_nothing_else(
    finished_platform: Platform,
) -> None:
    platform = finished_platform
    first, _ = platform.shards()
    before = platform.version("personas/extracted", first)

    platform.materialize("personas/extracted", shard=first)
    assert platform.version("personas/extracted", first) == before

    with platform.store.transaction() as connection:
        connection.execute("delete from corpus.documents where line is null and rowid = 0")
    platform.materialize("personas/extracted", shard=first)
    assert platform.version("personas/extracted", first) != before


def test_shards_that_were_done_before_one_failed_are_reported(platform: Platform) -> None:
    first, second = platform.register()
    staged = platform.settings.staging_dir / f"{second}.parquet"
    staged.rename(staged.with_suffix(".gone"))

    result = platform.materialize("corpus/documents", "corpus/rejected", shard=first, to=second)

    assert not result.success
    assert counts(platform, "corpus/documents") == {first: 2}


def test_assets_that_buy_take_some_shards_in_a_run_and_the_others_all(platform: Platform) -> None:
    policies = {
        key.to_user_string(): node.backfill_policy
        for node in platform.definitions.resolve_asset_graph().asset_nodes
        if node.is_partitioned
        for key in [node.key]
    }
    some = dg.BackfillPolicy.multi_run(platform.settings.shards_per_run)
    buying = {key for key, policy in policies.items() if policy == some}
    domains = {f"synthetic/{name}" for name in platform.settings.load_domains()}
    asking = {"personas/extracted", "personas/related", "personas/embeddings"}
    assert buying == asking | domains
    others = {policy for key, policy in policies.items() if key not in buying}
    assert others == {dg.BackfillPolicy.single_run()}


def test_a_later_shard_that_is_decided_again_is_reported_with_its_new_version(
    finished_platform: Platform,
) -> None:
    platform = finished_platform
    first, second = platform.shards()
    copy_persona(platform, first, second)
    assert platform.materialize(*DECIDING[1:], shard=second).success
    assert platform.store.query("from personas.duplicates")["shard"].to_list() == [second]
    before = {key: platform.version(key, second) for key in DECIDING}

    with platform.store.transaction() as connection:
        connection.execute("delete from personas.candidates where shard = ?", [first])
    assert platform.materialize(*DECIDING[2:], shard=first).success

    assert platform.store.query("from personas.duplicates").is_empty()
    changed = {key for key in DECIDING if platform.version(key, second) != before[key]}
    assert changed == {"personas/duplicates", "personas/hub"}


def copy_persona(platform: Platform, first: str, second: str) -> None:
    """Make a persona of the first shard a candidate of the second, too."""
    with platform.store.transaction() as connection:
        connection.execute(
            "insert into personas.candidates select * replace (? as shard, 'copy' as persona_id, "
            "now() at time zone 'UTC' as created_at) from personas.candidates where shard = ? "
            "order by persona_id limit 1",
            [second, first],
        )
