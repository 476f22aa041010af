"""The settings themselves: their defaults, the values they take, and the domains they choose."""

import re
from pathlib import Path
from typing import Any

import pytest

from persona_pipeline.errors import DomainError, SettingsError
from persona_pipeline.settings import Settings, Verb, load_settings
from tests.support.variables import CANARY, set_variables, write_toml


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings()
    assert (settings.source, settings.documents, settings.shard_size) == ("wikipedia", 20, 1000)
    assert settings.model_fields_set == set()
    assert settings.database == Path("data/pipeline.duckdb")


def test_vectors_are_needed_to_compare_or_to_choose_by_meaning() -> None:
    assert load_settings().needs_vectors
    by_words: dict[str, Any] = {"cosine_threshold": None}
    assert not load_settings(**by_words).needs_vectors
    chosen = {"few": {"count": 3}}
    assert load_settings(**by_words, selections=chosen).needs_vectors
    for rules in ({"count": 3, "method": "first"}, {"thresholds": [0.5]}):
        assert not load_settings(**by_words, selections={"few": rules}).needs_vectors


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("inbox", "inbox/new"),
        ("inbox", "./inbox/*.jsonl"),
        ("inbox/*.txt", "inbox/new.txt"),
        ("s3://bucket/pages", "s3://bucket/pages/2026/*.parquet"),
    ],
)
def test_a_watched_place_in_another_is_refused(outer: str, inner: str) -> None:
    for watch in ([outer, inner], [inner, outer]):
        with pytest.raises(SettingsError, match=r"'watch'.* is in .*: name one of them"):
            load_settings(watch=watch)


def test_a_place_watched_twice_is_refused_and_its_password_is_not_shown() -> None:
    places = [f"https://a:{CANARY}@host/pages", f"https://host/pages?key={CANARY}"]
    with pytest.raises(SettingsError, match="'https://host/pages' is named twice") as caught:
        load_settings(watch=places)
    assert CANARY not in str(caught.value)


def test_watched_places_beside_each_other_are_taken() -> None:
    places = ["inbox", "inbox2", "in/*.txt", "in/*.jsonl", "in/new/*.txt", "s3://a/b", "s3://a/bc"]
    assert load_settings(watch=places).watch == places


def test_the_api_key_is_in_no_text_of_the_settings() -> None:
    settings = load_settings(api_key=CANARY)
    assert CANARY not in f"{settings!r} {settings} {settings.model_dump()}"
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == CANARY


@pytest.mark.parametrize("word", ["all", "none"])
def test_all_or_none_takes_every_document_and_persona(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, documents=word, records_per_shard=word)
    settings = load_settings()
    assert settings.documents is None
    assert settings.records_per_shard is None


@pytest.mark.parametrize("name", ["language", "api_base", "api_key"])
def test_none_stands_for_an_absent_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, **{name: "none"})
    assert getattr(load_settings(), name) is None


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, verbs="like, dislike", domains="math,,npc ,", domain_dirs="/a, b")
    settings = load_settings()
    assert settings.verbs == [Verb.LIKE, Verb.DISLIKE]
    assert settings.domains == ["math", "npc"]
    assert settings.domain_dirs == [Path("/a"), Path("b")]


def test_lists_in_the_file_are_lists() -> None:
    write_toml('verbs = ["like"]\n[domain_options.math]\ndifficulty = ["hard"]\n')
    settings = load_settings()
    assert settings.verbs == [Verb.LIKE]
    assert settings.domain_options == {"math": {"difficulty": ["hard"]}}


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("gpu:8000/v1", "not an address"),
        ("http://[::1", "setting 'api_base'"),
        ("http://bob:sk-canary@host/v1", "give it as api_key"),
    ],
)
def test_an_address_is_checked_and_a_password_in_it_is_never_shown(
    address: str, problem: str
) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        load_settings(api_base=address)
    assert "sk-canary" not in str(caught.value)


@pytest.mark.parametrize("setting", ["stage_models", "stage_max_usd", "stage_max_tokens"])
def test_a_stage_that_is_none_is_named_with_the_choices(setting: str) -> None:
    value: object = ["fake/demo"] if setting == "stage_models" else 1
    settings = load_settings(**{setting: {"math": value}})
    with pytest.raises(SettingsError, match=r"unknown stage 'math'; known: .*synthetic\.math"):
        settings.load_domains()


@pytest.mark.parametrize("setting", ["sampling", "request_parameters"])
def test_a_name_that_is_no_model_and_no_stage_is_named_with_the_choices(setting: str) -> None:
    settings = load_settings(**{setting: {"synthetic.maths": {}}}, model="openai/served")
    message = r"'synthetic\.maths'; did you mean 'synthetic\.math'\?; known: .*openai/served"
    with pytest.raises(SettingsError, match=message):
        settings.load_domains()
    load_settings(
        **{setting: {"openai/of-another-run": {}, "gpt-5": {}}}, model="gpt-5"
    ).load_domains()


@pytest.mark.parametrize("name", ["max_tokens", "api_key", "response_format"])
def test_a_parameter_that_the_platform_sets_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} cannot be set here: the platform sets it"):
        load_settings(request_parameters={"m": {name: 1}})


def test_an_unknown_sampling_parameter_is_named_with_the_choices() -> None:
    with pytest.raises(SettingsError, match=r"'top_k'; did you mean 'top_p'\?; known: max_tok"):
        load_settings(sampling={"m": {"top_k": 1}})


def test_sampling_and_parameters_are_read_from_the_file() -> None:
    write_toml(
        'reasoning_effort = "low"\n'
        '[sampling."openai/alias"]\ntemperature = "none"\nmax_tokens = 900\n'
        '[request_parameters."synthetic.math"]\nseed = 7\n'
    )
    options = load_settings().request_options
    assert options.sampling == {"openai/alias": {"temperature": None, "max_tokens": 900}}
    assert options.parameters == {"synthetic.math": {"seed": 7}}
    assert options.reasoning_effort == "low"


def test_all_domains_are_loaded_unless_some_are_chosen(domain_dir: Path) -> None:
    every = load_settings(domain_dirs=[domain_dir]).load_domains()
    assert {"math", "npc", "riddle"} <= every.keys()
    chosen = load_settings(domain_dirs=str(domain_dir), domains="npc,riddle").load_domains()
    assert list(chosen) == ["npc", "riddle"]


def test_the_options_of_a_domain_are_narrowed(domain_dir: Path) -> None:
    options = {"riddle": {"difficulty": ["hard"]}}
    settings = load_settings(domain_dirs=[domain_dir], domain_options=options)
    domain = settings.load_domains()["riddle"]
    assert {domain.draw_options(str(n))["difficulty"] for n in range(20)} == {"hard"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domains": ["maths"]}, "unknown domain 'maths'; did you mean 'math'.; known: "),
        ({"domain_options": {"maths": {}}}, "unknown domain 'maths'"),
    ],
)
def test_a_domain_that_is_not_there_is_named_with_the_choices(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(**arguments).load_domains()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"difficult": []}, "unknown option of riddle 'difficult'; did you mean 'difficulty'"),
        ({"difficulty": ["hart"]}, "unknown difficulty of riddle 'hart'; did you mean 'hard'"),
    ],
)
def test_an_option_that_is_not_there_is_named_with_the_choices(
    domain_dir: Path, options: dict[str, list[str]], message: str
) -> None:
    settings = load_settings(domain_dirs=[domain_dir], domain_options={"riddle": options})
    with pytest.raises(DomainError, match=message):
        settings.load_domains()


def test_every_setting_says_what_it_is_for() -> None:
    page = (Path(__file__).parents[2] / "SETTINGS.md").read_text()
    for name in Settings.model_fields:
        assert re.search(rf"^\| `{name}` \| .+ \| \S", page, re.MULTILINE), name


@pytest.mark.parametrize(
    ("caps", "has_caps"),
    [
        ({}, False),
        ({"max_usd": 1.0}, True),
        ({"max_tokens": 1000}, True),
        ({"stage_max_usd": {"synthetic.math": 1.0}}, True),
        ({"stage_max_tokens": {"synthetic.math": 1000}}, True),
    ],
)
def test_a_cap_of_any_kind_is_one(caps: dict[str, object], *, has_caps: bool) -> None:
    assert load_settings(**caps).has_caps == has_caps
