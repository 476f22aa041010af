"""What a wrong setting is told, wherever it was given."""

from pathlib import Path
from typing import Any

import pytest

from persona_pipeline.errors import SettingsError
from persona_pipeline.settings import CONFIG_VARIABLE, PREFIX, load_settings
from tests.support.variables import CANARY, set_variables, write_toml


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
        ({"min_chars": 9, "max_chars": 8}, r"'min_chars' \(9\) is larger than 'max_chars' \(8\)"),
        ({"documents": 0}, r"setting 'documents': .*greater than or equal to 1 \(got 0\)"),
        ({"documents": [1]}, r"setting 'documents': .*\(got \[1\]\)"),
        ({"hops": 7}, r"setting 'hops': .*less than or equal to 6"),
        ({"granularity": "rough"}, r"setting 'granularity': .*'fine' or 'coarse'"),
        ({"verbs": "read,eat"}, r"setting 'verbs\.1': .*'read', 'write', 'like' or 'dislike'"),
        ({"verbs": ""}, r"setting 'verbs': .*at least 1"),
        ({"prompting": "one_shot"}, r"setting 'prompting': .*'zero_shot', 'few_shot'"),
        ({"jaccard_threshold": 0}, r"setting 'jaccard_threshold': .*greater than or equal to 0.01"),
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


def test_no_part_of_a_setting_that_may_hold_a_secret_is_shown() -> None:
    for name in ("api_key", "extra_headers"):
        with pytest.raises(SettingsError, match=f"{name} cannot be set here") as caught:
            load_settings(request_parameters={"fake/demo": {name: CANARY}})
        assert CANARY not in str(caught.value)
    with pytest.raises(SettingsError, match=r"setting 'watch\.0'") as caught:
        load_settings(watch=[{"place": CANARY}])
    assert CANARY not in str(caught.value)


def test_a_file_that_is_not_utf8_is_named() -> None:
    Path("persona_pipeline.toml").write_bytes('model = "caf\xe9"'.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"persona_pipeline\.toml: .*utf-8"):
        load_settings()


def test_a_place_may_be_a_path_from_python(tmp_path: Path) -> None:
    settings = load_settings(source=tmp_path, watch=[tmp_path / "in"])
    assert (settings.source, settings.watch) == (str(tmp_path), [str(tmp_path / "in")])
    assert load_settings(watch=tmp_path).watch == [str(tmp_path)]


def test_an_env_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PERSONA_PIPELINE_LANGUAGE=\xe9\n")
    with pytest.raises(SettingsError, match=r"\.env is not UTF-8: .* at byte 26"):
        load_settings()


@pytest.mark.parametrize(
    "name",
    [
        "headers",
        "Extra_Headers",
        "x-api-key",
        "Authorization",
        "aws_secret_access_key",
        "azure_ad_token",
    ],
)
def test_parameters_with_a_secret_anywhere_inside_are_refused(name: str) -> None:
    for parameters in ({name: CANARY}, {"extra_body": {"a": [{name: CANARY}]}}):
        with pytest.raises(SettingsError, match=f"{name} cannot be set here") as raised:
            load_settings(request_parameters={"openai/m": parameters})
        assert CANARY not in str(raised.value)
    load_settings(request_parameters={"azure/m": {"extra_query": {"api-version": "2026"}}})
