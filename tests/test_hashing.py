"""Ids that must be the same on every machine, and the message for a wrong name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from persona_pipeline import hashing
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.errors import unknown_choice
from persona_pipeline.hashing import (
    canonical_json,
    code_version,
    stable_id,
    stable_ids,
    versioned_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def test_ids_never_change_between_releases() -> None:
    assert stable_id("persona", 1, {"b": [True, None], "a": "é"}) == (
        "89c25026f50b39058308419718a6a088"
    )


@given(st.lists(JSON, min_size=1, max_size=3), st.lists(st.text(), max_size=3))
def test_many_ids_at_once_are_those_one_by_one(first: list[JsonValue], last: list[str]) -> None:
    assert stable_ids(first, last) == [stable_id(*first, each) for each in last]


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=5))
def test_an_id_does_not_depend_on_the_order_of_keys(value: dict[str, JsonValue]) -> None:
    backwards = dict(reversed(value.items()))
    assert stable_id(value) == stable_id(backwards)
    assert canonical_json(value) == canonical_json(backwards)


def test_versions_of_stored_comparisons_and_decisions_never_change() -> None:
    assert Comparison(0.7, 0.9, has_scores=True, method="exact").version_text() == (
        "Comparison(min_jaccard=0.7, min_cosine=0.9, has_scores=True, method='exact')"
    )
    assert Thresholds(0.9, None, None).version_text() == (
        "Thresholds(jaccard=0.9, cosine=None, fuzzy=None)"
    )


def test_another_version_of_the_same_fields_is_another_text() -> None:
    assert versioned_text("Rules", 1, {"at": 0.5}) == "Rules(at=0.5)"
    assert versioned_text("Rules", 2, {"at": 0.5}) == "Rules 2(at=0.5)"


def test_parts_are_not_run_together() -> None:
    assert stable_id("ab", "c") != stable_id("a", "bc")
    assert stable_id(1) != stable_id("1")
    assert stable_id() != stable_id(None)


def test_half_a_surrogate_pair_has_an_id_too() -> None:
    assert len(stable_id("\ud83d")) == 32


def test_a_wrong_name_is_met_with_the_nearest_and_all_choices() -> None:
    message = unknown_choice("domain", "maths", {"npc", "math", "tool"})
    assert message == "unknown domain 'maths'; did you mean 'math'?; known: math, npc, tool"


def test_a_name_like_no_other_gets_the_choices_only() -> None:
    assert unknown_choice("domain", "zzz", ["npc"]) == "unknown domain 'zzz'; known: npc"


def test_the_version_of_the_program_changes_with_its_code_and_not_with_its_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    for name in (
        "rules.py",
        "marts/cost.sql",
        "prompts/ask.j2",
        "domains/x/checks.py",
        "cli/run.py",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("old")
    monkeypatch.setattr(hashing, "_PARTS", (package, tmp_path / "not_there"))
    versions = [code_version.__wrapped__()]
    for name in ("prompts/ask.j2", "domains/x/checks.py", "cli/run.py"):
        (package / name).write_text("new")
        assert code_version.__wrapped__() == versions[0], name
    for name in ("rules.py", "marts/cost.sql"):
        (package / name).write_text("new")
        versions.append(code_version.__wrapped__())
    (package / "rules.py").rename(package / "others.py")
    versions.append(code_version.__wrapped__())
    monkeypatch.setattr(hashing, "version", lambda _: "99")
    versions.append(code_version.__wrapped__())
    assert len(set(versions)) == len(versions) == 5
