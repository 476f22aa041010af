"""Where settings come from, who wins, and which old names still work."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from persona_pipeline.errors import SettingsError, tell_renamed
from persona_pipeline.hub.selection_rules import Selection
from persona_pipeline.llm.prices import PriceSetting
from persona_pipeline.settings import CONFIG_VARIABLE, PREFIX, RENAMED, Verb, load_settings
from persona_pipeline.settings.sampling import SamplingSetting
from persona_pipeline.synthesis.prompting import Prompting
from tests.support.variables import environment_of, set_variables, write_toml


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


WORDS = st.text("abcdefghijklmnopqrstuvwxyz/.:-_é'\"{}", min_size=1, max_size=12)
FREE_WORDS = WORDS.filter(lambda name: name != "n")  # which the platform sets itself

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
    "jaccard_threshold": st.floats(0.01, 1),
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
        WORDS,
        st.dictionaries(
            WORDS.filter(lambda name: name != "n"), st.none() | st.integers(0, 9) | WORDS
        ),
        max_size=2,
    ),
    "reasoning_effort": st.none() | st.sampled_from(["low", "high"]),
    "reasoning_tokens": st.integers(0, 10**9),
}


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


# names of before


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
    with pytest.raises(SettingsError, match="'dedup_threads' two values: 'threads' is its old"):
        load_settings(threads=1, dedup_threads=2)
    monkeypatch.setenv("PERSONA_PIPELINE_THREADS", "1")
    monkeypatch.setenv("PERSONA_PIPELINE_DEDUP_THREADS", "2")
    with pytest.raises(SettingsError, match="differ: the first is the old name"):
        load_settings()


def test_one_value_by_both_names_is_taken_from_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings(threads=3, dedup_threads=3).dedup_threads == 3
    (tmp_path / "persona_pipeline.toml").write_text("threads = 4\ndedup_threads = 4\n")
    assert load_settings().dedup_threads == 4
    monkeypatch.setenv("PERSONA_PIPELINE_THREADS", "5")
    monkeypatch.setenv("PERSONA_PIPELINE_DEDUP_THREADS", "5")
    assert load_settings().dedup_threads == 5


@pytest.mark.parametrize("name", ["THREADS", "DEDUP_THREADS"])
def test_the_environment_wins_over_an_old_name_in_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("PERSONA_PIPELINE_DEDUP_THREADS", raising=False)
    (tmp_path / ".env").write_text("PERSONA_PIPELINE_THREADS=7\n")
    monkeypatch.setenv(f"PERSONA_PIPELINE_{name}", "2")
    assert load_settings().dedup_threads == 2


def test_an_empty_variable_of_an_old_name_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONA_PIPELINE_THREADS", "")
    monkeypatch.setenv("PERSONA_PIPELINE_DEDUP_THREADS", "1")
    assert load_settings().dedup_threads == 1
    monkeypatch.setenv("PERSONA_PIPELINE_THREADS", "3")
    monkeypatch.setenv("PERSONA_PIPELINE_DEDUP_THREADS", "")
    assert load_settings().dedup_threads == 3


def test_the_old_way_to_choose_the_first_of_the_hub_still_works() -> None:
    settings = load_settings(selections={"few": {"count": 3, "farthest": False}})
    assert settings.selections["few"].method == "first"


def test_a_selection_by_its_old_and_its_new_name_at_once_is_an_error() -> None:
    with pytest.raises(SettingsError, match="farthest is the old name of method"):
        load_settings(selections={"few": {"count": 3, "farthest": True, "method": "first"}})
    off = load_settings(selections={"few": {"count": 3, "farthest": "off"}})
    assert off.selections["few"].method == "first"
