"""The statements behind `dedup explain`, `dedup sweep` and marts.pairs, each on a few rows."""

from persona_pipeline.sql import read_sql
from tests.sql.conftest import Tables

PAIRS = "select * exclude (first_persona, second_persona) from marts.pairs"


def add_personas(tables: Tables, *rows: tuple[str, str, float, int, int]) -> None:
    """Candidates with fingerprints: shard, persona_id, quality, set_key, text_key."""
    for shard, persona_id, quality, set_key, text_key in rows:
        common = {"shard": shard, "persona_id": persona_id}
        persona = {"persona": f"text of {persona_id}", "origin": "text_to_persona"}
        tables.add("personas.candidates", common | persona)
        keys = {"quality": quality, "sequence_key": set_key, "set_key": set_key}
        tables.add("personas.fingerprints", common | keys | {"text_key": text_key})


def add_pair(
    tables: Tables, layer: str, one: int, other: int, similarity: float, *shards: str
) -> None:
    keys = {"first_key": one, "second_key": other}
    for shard in shards or ("s1",):
        row = {"layer": layer, **keys, "similarity": similarity, "fuzzy_score": None}
        tables.add("personas.pairs", row, shard=shard)


def add_shards(tables: Tables) -> None:
    for number, shard in enumerate(("s1", "s2")):
        tables.add("corpus.shards", {"shard_number": number}, shard=shard)


def test_a_pair_is_shown_once_with_the_first_in_rank_of_each_side(tables: Tables) -> None:
    add_shards(tables)
    add_personas(
        tables,
        ("s2", "late", 9.0, 10, 100),
        ("s1", "early", 1.0, 10, 101),
        ("s1", "poor", 1.0, 20, 200),
        ("s1", "rich", 2.0, 20, 201),
    )
    add_pair(tables, "jaccard", 10, 20, 0.8, "s1", "s2")
    assert tables.rows(PAIRS) == [("rich", "early", "jaccard", 0.8, None, False)]
    texts = tables.rows("select first_persona, second_persona from marts.pairs")
    assert texts == [("text of rich", "text of early")]


def test_a_pair_is_a_duplicate_when_either_side_was_removed(tables: Tables) -> None:
    add_shards(tables)
    add_personas(tables, ("s1", "a", 3, 1, 11), ("s1", "b", 2, 2, 12), ("s1", "c", 1, 3, 13))
    add_pair(tables, "semantic", 11, 12, 0.95)
    add_pair(tables, "jaccard", 1, 3, 0.75)
    add_pair(tables, "jaccard", 1, 99, 0.75)  # of a shard that has changed since
    tables.add("personas.duplicates", {"persona_id": "b", "kept_id": "a", "layer": "semantic"})
    assert tables.rows(PAIRS) == [
        ("a", "b", "semantic", 0.95, None, True),
        ("a", "c", "jaccard", 0.75, None, False),
    ]


def test_neighbours_are_those_of_stored_pairs_and_of_the_same_words(tables: Tables) -> None:
    add_personas(
        tables,
        ("s1", "this", 1, 1, 11),
        ("s1", "same", 1, 1, 12),
        ("s1", "near", 1, 2, 13),
        ("s1", "meant", 1, 3, 14),
        ("s1", "far", 1, 4, 15),
    )
    add_pair(tables, "jaccard", 1, 2, 0.8, "s1", "s2")
    add_pair(tables, "semantic", 11, 13, 0.9)
    add_pair(tables, "semantic", 11, 14, 0.93)
    add_pair(tables, "semantic", 1, 15, 0.99)  # a key of texts, and here of other ones
    add_pair(tables, "jaccard", 3, 4, 0.99)
    tables.add("personas.duplicates", {"persona_id": "near", "kept_id": "this"})
    assert tables.rows(read_sql("cli/dedup_neighbours"), persona_id="this") == [
        ("same", "text of same", True, 1.0, None, None, None),
        ("meant", "text of meant", False, None, None, 0.93, None),
        ("near", "text of near", False, 0.8, None, 0.9, "this"),
    ]
    assert tables.rows(read_sql("cli/dedup_neighbours"), persona_id="none") == []


def test_a_persona_is_found_by_the_beginning_of_its_id_with_its_page(tables: Tables) -> None:
    add_personas(tables, ("s1", "ab", 1, 1, 11), ("s1", "ac", 1, 2, 12), ("s1", "b", 1, 3, 13))
    tables.add("personas.extracted", {"persona_id": "b", "document_id": "d1"})
    tables.add("personas.related", {"persona_id": "ab", "root_id": "b"})
    tables.add("corpus.documents", {"document_id": "d1", "url": "https://a.example", "title": "A"})
    duplicate = {"persona_id": "ab", "kept_id": "b", "layer": "jaccard", "similarity": 0.9}
    tables.add("personas.duplicates", duplicate)
    columns = ["persona_id", "url", "is_decided", "kept_id", "similarity"]

    def find(prefix: str, count: int = 9) -> list[dict[str, object]]:
        query = read_sql("cli/dedup_personas")
        return tables.table(query, columns, prefix=prefix, count=count)

    removed, kept = find("a")
    assert tuple(removed.values()) == ("ab", "https://a.example", False, "b", 0.9)
    assert tuple(kept.values()) == ("ac", None, False, None, None)
    assert len(find("a", 1)) == 1
    tables.add("runs.resolved", {"basis": "x"})
    assert find("b")[0]["is_decided"]
    assert find("%") == []


def test_compared_candidates_have_their_text_and_rank(tables: Tables) -> None:
    add_shards(tables)
    add_personas(tables, ("s2", "b", 2.0, 1, 11), ("s1", "a", 1.0, 2, 12))
    tables.add("personas.candidates", {"persona_id": "new", "persona": "not compared"})
    assert tables.rows(read_sql("personas/compared_candidates")) == [
        ("s1", "a", "text of a", 0, 1.0),
        ("s2", "b", "text of b", 1, 2.0),
    ]
