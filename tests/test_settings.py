"""Where settings come from, who wins, and what a wrong one is told."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from persona_pipeline.errors import DomainError, SettingsError, tell_renamed
from persona_pipeline.hub.selection_rules import Selection
from persona_pipeline.llm.prices import PriceSetting
from persona_pipeline.settings import (
    CONFIG_VARIABLE,
    PREFIX,
    RENAMED,
    Settings,
    Verb,
    load_settings,
)
from persona_pipeline.settings.sampling import SamplingSetting
from persona_pipeline.synthesis.prompting import Prompting
from tests.support.variables import environment_of

CANARY = "sk-canary-5f1d"


def write_toml(text: str) -> None:
    Path("persona_pipeline.toml").write_text(text)


def set_variables(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", value)


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings()
    assert (settings.source, settings.documents, settings.shard_size) == ("wikipedia", 20, 1000)
    assert settings.model_fields_set == set()
    assert settings.database == Path("data/pipeline.duckdb")


def test_what_is_given_wins_over_the_environment_which_wins_over_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_toml('model = "toml"\nsource = "toml"\nhops = 3\n')
    set_variables(monkeypatch, model="env", source="env")
    settings = load_settings(model="arguments")
    assert (settings.model, settings.source, settings.hops) == ("arguments", "env", 3)


def test_what_has_names_inside_is_taken_whole_from_the_first_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_toml(
        'stage_max_usd = { "synthetic.math" = 1 }\n[selections.few]\ncount = 3\nseed = 1\n'
        '[persona_sources]\nmath = "few"\n'
    )
    assert load_settings().persona_sources == {"math": "few"}
    set_variables(monkeypatch, persona_sources="{}", stage_max_usd='{"synthetic.npc": 2}')
    settings = load_settings(selections={"few": {"count": 2}, "many": {"count": 9}})
    assert settings.persona_sources == {}
    assert settings.stage_max_usd == {"synthetic.npc": 2}
    assert settings.selections == {"few": Selection(count=2), "many": Selection(count=9)}


def test_vectors_are_needed_to_compare_or_to_choose_by_meaning() -> None:
    assert load_settings().needs_vectors
    by_words: dict[str, Any] = {"cosine_threshold": None}
    assert not load_settings(**by_words).needs_vectors
    chosen = {"few": {"count": 3}}
    assert load_settings(**by_words, selections=chosen).needs_vectors
    for rules in ({"count": 3, "method": "first"}, {"thresholds": [0.5]}):
        assert not load_settings(**by_words, selections={"few": rules}).needs_vectors


def test_a_dotenv_file_counts_as_environment_but_real_variables_win(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(monkeypatch, model="real", source="gone later")
    monkeypatch.delenv(f"{PREFIX}SOURCE")
    Path(".env").write_text(f"{PREFIX}MODEL=dotenv\n{PREFIX}SOURCE=dotenv\n")
    settings = load_settings()
    assert (settings.model, settings.source) == ("real", "dotenv")


def test_an_empty_variable_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, source="", documents="")
    assert load_settings().source == "wikipedia"


def test_another_config_file_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.toml").write_text("hops = 2")
    monkeypatch.setenv(CONFIG_VARIABLE, "mine.toml")
    assert load_settings().hops == 2


def test_a_named_config_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, "mine.toml")
    with pytest.raises(SettingsError, match=r"CONFIG names mine\.toml, which is not there"):
        load_settings()


def test_the_cache_variable_is_no_setting_and_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, cache_dir="/somewhere")
    load_settings()


def test_an_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, modle=CANARY)
    message = f"unknown setting '{PREFIX}MODLE'; did you mean '{PREFIX}MODEL'.$"
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings()
    assert CANARY not in str(caught.value)


def test_a_name_like_no_setting_gets_all_of_them() -> None:
    write_toml("zzz = 1")
    with pytest.raises(SettingsError, match=r"unknown setting 'zzz'; known: .*model"):
        load_settings()


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


def test_an_unknown_key_of_the_file_names_the_nearest() -> None:
    write_toml(f'api_kee = "{CANARY}"')
    message = "unknown setting 'api_kee'; did you mean 'api_key'.$"
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings()
    assert CANARY not in str(caught.value)


def test_a_file_that_is_not_toml_is_named() -> None:
    write_toml("model = ")
    with pytest.raises(SettingsError, match=r"^persona_pipeline\.toml: Invalid value"):
        load_settings()


def test_a_variable_that_is_not_json_is_named_and_no_file_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(monkeypatch, domain_options="{bad")
    with pytest.raises(SettingsError, match=r'"domain_options".*line 1') as caught:
        load_settings()
    assert "toml" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"documents": "few"}, r"setting 'documents': .*integer.*\(got 'few'\)"),
        ({"documents": 0}, r"setting 'documents': .*greater than or equal to 1 \(got 0\)"),
        ({"documents": [1]}, r"setting 'documents': .*\(got \[1\]\)"),
        ({"hops": 7}, r"setting 'hops': .*less than or equal to 6"),
        ({"granularity": "rough"}, r"setting 'granularity': .*'fine' or 'coarse'"),
        ({"verbs": "read,eat"}, r"setting 'verbs\.1': .*'read', 'write', 'like' or 'dislike'"),
        ({"verbs": ""}, r"setting 'verbs': .*at least 1"),
        ({"prompting": "one_shot"}, r"setting 'prompting': .*'zero_shot', 'few_shot'"),
        ({"jaccard_threshold": 0}, r"setting 'jaccard_threshold': .*greater than 0"),
        ({"hops": 7, "fan_out": 7}, r"'hops'.*; setting 'fan_out'"),
    ],
)
def test_a_wrong_value_is_shown_with_what_is_allowed(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(**arguments)


@pytest.mark.parametrize("key", [[CANARY], {"a": CANARY}])
def test_a_wrong_api_key_is_not_shown(key: object) -> None:
    with pytest.raises(SettingsError, match="setting 'api_key'") as caught:
        load_settings(api_key=key)
    assert CANARY not in str(caught.value)


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


WORDS = st.text("abcdefghijklmnopqrstuvwxyz/.:-_é'\"{}", min_size=1, max_size=12)
PRICES = st.builds(
    PriceSetting,
    input=st.floats(0, 1e6),
    output=st.floats(0, 1e6),
    cached_input=st.none() | st.floats(0, 1e6),
)
SAMPLINGS = st.builds(
    SamplingSetting,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0.001, 1),
    max_tokens=st.integers(1, 10**6),
)
CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "data_dir": WORDS.map(Path),
    "source": WORDS,
    "documents": st.none() | st.integers(1, 10**9),
    "records_per_shard": st.none() | st.integers(1, 10**9),
    "model": WORDS,
    "api_base": st.none() | st.sampled_from(["http://gpu:8000/v1", "https://models.test"]),
    "api_key": st.none() | WORDS,
    "language": st.none() | st.sampled_from(["en", "fr"]),
    "request_timeout": st.floats(0.001, 1e6),
    "jaccard_threshold": st.floats(0.001, 1),
    "verbs": st.lists(st.sampled_from(Verb), min_size=1),
    "prompting": st.sampled_from(Prompting),
    "domains": st.lists(WORDS, min_size=1),
    "domain_dirs": st.lists(WORDS.map(Path), min_size=1),
    "domain_options": st.dictionaries(
        WORDS, st.dictionaries(WORDS, st.lists(WORDS), max_size=2), max_size=2
    ),
    "granularity": st.sampled_from(["fine", "coarse"]),
    "fallback_models": st.lists(WORDS, min_size=1),
    "stage_models": st.dictionaries(WORDS, st.lists(WORDS, min_size=1), max_size=2),
    "requests_per_minute": st.none() | st.floats(0.001, 1e6),
    "batch": st.booleans(),
    "max_usd": st.none() | st.floats(0, 1e6),
    "max_tokens": st.none() | st.integers(0, 10**9),
    "stage_max_usd": st.dictionaries(WORDS, st.floats(0, 1e6), max_size=2),
    "stage_max_tokens": st.dictionaries(WORDS, st.integers(0, 10**9), max_size=2),
    "prices": st.dictionaries(WORDS, PRICES, max_size=2),
    "allow_unknown_price": st.booleans(),
    "schema_mode": st.sampled_from(["auto", "json_schema", "json_object", "prompt"]),
    "sampling": st.dictionaries(WORDS, SAMPLINGS, max_size=2),
    "request_parameters": st.dictionaries(
        WORDS, st.dictionaries(WORDS, st.none() | st.integers(0, 9) | WORDS), max_size=2
    ),
    "reasoning_effort": st.none() | st.sampled_from(["low", "high"]),
    "reasoning_tokens": st.integers(0, 10**9),
}


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


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=st.fixed_dictionaries({}, optional=CHOICES))
def test_settings_reach_a_child_process_through_its_environment_unchanged(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(**arguments)
    with monkeypatch.context() as child:
        for variable, value in environment_of(settings).items():
            child.setenv(variable, value)
        matches = load_settings()
    assert matches == settings


def test_only_what_was_chosen_goes_to_a_child_process() -> None:
    assert environment_of(load_settings(hops=2)) == {f"{PREFIX}HOPS": "2"}


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
    for name, field in Settings.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_of_a_setting_works_and_is_answered_with_the_new_one(
    old: str,
    new: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    value = {"dedup_memory": "1GB", "store_pairs_from": "0.5", "dedup_threads": "1"}[new]
    expected = getattr(load_settings(**{new: value}), new)
    for place in ("argument", "variable", "file"):
        tell_renamed.cache_clear()
        caplog.clear()
        if place == "variable":
            monkeypatch.setenv(f"PERSONA_PIPELINE_{old.upper()}", value)
            assert getattr(load_settings(), new) == expected
            monkeypatch.delenv(f"PERSONA_PIPELINE_{new.upper()}")
        elif place == "file":
            (tmp_path / "persona_pipeline.toml").write_text(f'{old} = "{value}"')
            assert getattr(load_settings(), new) == expected
        else:
            assert getattr(load_settings(**{old: value}), new) == expected
        assert new in caplog.text.lower()
        assert "until 0.3" in caplog.text


def test_a_setting_by_its_old_and_its_new_name_at_once_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SettingsError, match="'dedup_threads' twice: 'threads' is its old name"):
        load_settings(threads=1, dedup_threads=2)
    monkeypatch.setenv("PERSONA_PIPELINE_THREADS", "1")
    monkeypatch.setenv("PERSONA_PIPELINE_DEDUP_THREADS", "2")
    with pytest.raises(SettingsError, match="differ: the first is the old name"):
        load_settings()


def test_the_old_way_to_choose_the_first_of_the_hub_still_works() -> None:
    settings = load_settings(selections={"few": {"count": 3, "farthest": False}})
    assert settings.selections["few"].method == "first"


def test_an_empty_variable_of_an_old_name_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONA_PIPELINE_THREADS", "")
    monkeypatch.setenv("PERSONA_PIPELINE_DEDUP_THREADS", "1")
    assert load_settings().dedup_threads == 1
    monkeypatch.setenv("PERSONA_PIPELINE_THREADS", "3")
    monkeypatch.setenv("PERSONA_PIPELINE_DEDUP_THREADS", "")
    assert load_settings().dedup_threads == 3


def test_a_selection_by_its_old_and_its_new_name_at_once_is_an_error() -> None:
    with pytest.raises(SettingsError, match="farthest is the old name of method"):
        load_settings(selections={"few": {"count": 3, "farthest": True, "method": "first"}})
    off = load_settings(selections={"few": {"count": 3, "farthest": "off"}})
    assert off.selections["few"].method == "first"
