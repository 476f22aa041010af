"""Test that the table of stages and the graph of assets agree on what each stage reads."""

from assets.definitions import build_definitions
from assets.resources import Models
from persona_pipeline.project import open_project
from persona_pipeline.stage_names import DEDUPLICATION, HUB_STAGES, STAGES, stages_before, stages_of

DOMAINS = ["math", "npc"]
TABLES = {stage.name: stage.table for stage in stages_of(DOMAINS)}


def parents() -> dict[str, set[str]]:
    """Return the assets that each asset depends on, by their tables."""
    project = open_project(source="pages", model="fake/demo", domains=DOMAINS)
    graph = build_definitions(project, Models(project.settings)).resolve_asset_graph()
    return {
        ".".join(key.path): {".".join(parent.path) for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }


def nearest_stages(table: str, graph: dict[str, set[str]]) -> set[str]:
    """Return the tables of stages upstream of this one, with no other stage's table between."""
    tables = set[str]()
    for parent in graph.get(table, set()):
        tables |= {parent} if parent in TABLES.values() else nearest_stages(parent, graph)
    return tables


def test_every_stage_depends_on_the_tables_of_the_stages_that_it_reads() -> None:
    graph = parents()
    assert set(TABLES.values()) <= set(graph)
    for stage in STAGES:
        assert nearest_stages(stage.table, graph) == {TABLES[name] for name in stage.reads}
    for domain in DOMAINS:
        assert nearest_stages(f"synthetic.{domain}", graph) == {TABLES[DEDUPLICATION]}


def test_the_stages_that_make_the_hub_are_deduplication_and_what_it_reads() -> None:
    assert {*stages_before(DEDUPLICATION), DEDUPLICATION} == set(HUB_STAGES)
