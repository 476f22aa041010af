import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import build_definitions
from persona_pipeline.project import Project
from tests.support.platform import DOMAINS, Platform, open_platform

ALL_DOMAINS = ("instruction", "knowledge", "logical_reasoning", "math", "npc", "tool")
TABLES = [
    "corpus.documents",
    "corpus.rejected",
    "personas.extracted",
    "personas.related",
    "personas.candidates",
    "personas.rejected",
    "personas.embeddings",
    "personas.duplicates",
    "personas.hub",
    "synthetic.rejected",
]
RECORDS = [f"synthetic.{domain}" for domain in DOMAINS]


@pytest.fixture
def whole_platform(tmp_path: Path, instance: dg.DagsterInstance) -> Platform:
    """Make a platform with all six domains."""
    return open_platform(tmp_path, instance, domains=ALL_DOMAINS)


def edges(definitions: dg.Definitions) -> dict[str, set[str]]:
    graph = definitions.resolve_asset_graph()
    return {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }


def test_every_table_is_an_asset_and_depends_on_what_it_is_made_from(
    whole_platform: Platform,
) -> None:
    upstream = edges(whole_platform.definitions)

    assert {key.replace("/", ".") for key in upstream} >= {*TABLES, "corpus.shards", "llm.calls"}
    assert upstream["corpus/documents"] == {"corpus/shards", "corpus/files"}
    assert upstream["personas/extracted"] == {"corpus/documents"}
    assert upstream["personas/related"] == {"personas/extracted"}
    assert upstream["personas/candidates"] == {"personas/extracted", "personas/related"}
    for compared in ("personas/fingerprints", "personas/pairs"):
        assert upstream[compared] == {"personas/candidates", "personas/embeddings"}
    assert upstream["personas/duplicates"] == {"personas/fingerprints", "personas/pairs"}
    assert upstream["personas/hub"] == {"personas/candidates", "personas/duplicates"}
    assert all(upstream[f"synthetic/{domain}"] == {"personas/hub"} for domain in ALL_DOMAINS)


def test_every_asset_says_what_one_row_is_and_has_group_owner_and_kinds(
    whole_platform: Platform,
) -> None:
    for spec in whole_platform.definitions.resolve_all_asset_specs():
        assert "One row is" in (spec.description or ""), spec.key
        assert spec.group_name in {"corpus", "personas", "synthetic", "marts"}, spec.key
        assert spec.owners, spec.key
        assert spec.kinds, spec.key


def test_assets_that_buy_answers_have_a_version_that_follows_prompt_and_model(
    platform: Platform,
) -> None:
    slow = platform.settings.model_copy(update={"model": "fake/slow"})
    other = build_definitions(Project(slow))

    def version(definitions: dg.Definitions, key: str) -> str | None:
        specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
        return specs[key].code_version

    for key in ["personas/extracted", "personas/related", "synthetic/math", "synthetic/tool"]:
        assert version(platform.definitions, key)
        assert version(platform.definitions, key) != version(other, key)


def test_the_main_job_fills_every_table_and_the_funnel_balances(whole_platform: Platform) -> None:
    platform, shards = whole_platform, whole_platform.register()
    for shard in shards:
        assert platform.run(shard).success

    funnel = platform.store.query("select * from marts.funnel")
    lineage = platform.store.query("select * from marts.lineage")
    assert len(shards) == 2
    assert funnel["is_balanced"].all()
    assert funnel["is_current"].all()
    assert set(lineage["domain"]) == set(ALL_DOMAINS)
    assert lineage["url"].null_count() == 0
    assert len(funnel) == 2 * (5 + len(ALL_DOMAINS))


def test_a_second_run_asks_nothing_compares_nothing_and_leaves_the_same_tables(
    finished_platform: Platform,
) -> None:
    platform, tables = finished_platform, [*TABLES, *RECORDS, "llm.calls"]
    first, _ = platform.shards()
    before = {table: platform.rows(table) for table in tables}
    written = "select shard, created_at from runs.{} order by all"
    steps = [written.format(table) for table in ("compared", "resolved")]
    times = [platform.store.query(step).rows() for step in steps]

    assert platform.run(first).success

    assert not platform.models.endpoints("fake/demo").client.requests  # type: ignore[attr-defined] # it is the fake
    assert {table: platform.rows(table) for table in tables} == before
    assert [platform.store.query(step).rows() for step in steps] == times  # nothing decided again


def test_one_shard_of_one_domain_can_be_materialized_alone(finished_platform: Platform) -> None:
    platform = finished_platform
    first, _ = platform.shards()
    others = platform.rows("synthetic.math")
    with platform.store.transaction() as connection:
        connection.execute("delete from synthetic.math where shard = ?", [first])

    assert platform.materialize("synthetic/math", shard=first).success

    assert platform.rows("synthetic.math") == others


def test_metadata_has_row_counts_columns_and_a_sample(finished_platform: Platform) -> None:
    first, _ = finished_platform.shards()
    event = finished_platform.materialization("personas/extracted", first)
    assert event.metadata["dagster/partition_row_count"].value == 4
    assert event.metadata["calls_bought"].value == 4
    assert "| persona |" in str(event.metadata["sample"].value)
    schema = event.metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    names = {column.name for column in schema.columns}
    assert {"shard", "persona_id", "document_id", "persona"} <= names
    assert all(column.description for column in schema.columns)


def test_a_shard_that_is_registered_nowhere_fails_with_what_to_do(platform: Platform) -> None:
    platform.register()
    platform.instance.add_dynamic_partitions("shards", ["elsewhere-00000"])

    result = platform.materialize("corpus/documents", "corpus/rejected", shard="elsewhere-00000")

    assert not result.success
    failures = [event.event_specific_data for event in result.all_events if event.is_step_failure]
    assert "materialize corpus/shards first" in str(failures)


def test_the_funnel_check_fails_when_a_row_is_missing(finished_platform: Platform) -> None:
    platform = finished_platform
    with platform.store.transaction() as connection:
        connection.execute("delete from personas.candidates where rowid = 0")

    result = platform.materialize("marts/funnel")

    checks = {item.check_name: item for item in result.get_asset_check_evaluations()}
    assert not checks["no_row_is_lost"].passed
    assert checks["no_row_is_lost"].blocking
    assert not checks["no_stage_is_behind"].passed


def test_shards_give_the_same_hub_in_any_order_of_runs(finished_platform: Platform) -> None:
    platform = finished_platform
    first, second = platform.shards()
    forwards = platform.rows("personas.hub"), platform.rows("personas.duplicates")

    for table in [*TABLES, *RECORDS]:
        with platform.store.transaction() as connection:
            connection.execute(f"delete from {table}")
    platform.run(second)
    platform.run(first)

    assert (platform.rows("personas.hub"), platform.rows("personas.duplicates")) == forwards


def test_a_broken_file_costs_its_own_rows_only(platform: Platform) -> None:
    (platform.pages / "broken.jsonl").write_text('{"text": "cut off', encoding="utf-8")
    shards = platform.register()
    for shard in shards:
        platform.materialize("corpus/documents", "corpus/rejected", shard=shard)

    rejected = platform.store.query("select file, line, reason from corpus.rejected")
    assert rejected.rows() == [("broken.jsonl", 1, "broken_json")]
    assert platform.store.query("select count(*) from corpus.documents").item() == 4


def test_a_shard_that_was_left_half_way_does_not_stop_the_shards_before_it(
    finished_platform: Platform,
) -> None:
    platform = finished_platform
    first, second = platform.shards()
    with platform.store.transaction() as connection:  # as after a new model's first stage
        connection.execute(
            "update personas.extracted set persona_id = reverse(persona_id) where shard = ?",
            [second],
        )

    assert platform.run(first).success
    assert platform.run(second).success
    assert platform.store.query("from marts.funnel where not is_balanced").is_empty()


def test_the_code_location_loads_without_what_only_a_call_needs() -> None:
    heavy = "{'litellm', 'openai', 'aiohttp', 'xllamacpp', 'onnxruntime', 'sqlglot'}"
    program = f"import sys, assets.definitions; print(sorted({heavy} & sys.modules.keys()))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"
