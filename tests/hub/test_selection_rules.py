"""Which rules a diverse subset may have, and which message a wrong rule gives."""

import pytest

from persona_pipeline.errors import SettingsError
from persona_pipeline.hub.selection_rules import Selection
from persona_pipeline.settings import load_settings
from tests.support.variables import environment_of


@pytest.mark.parametrize(
    ("selections", "message"),
    [
        ({"d": {}}, r"'selections\.d': .*chooses nobody: give count, or thresholds"),
        ({"d": {"cuont": 3}}, r"'selections\.d'.*'cuont'; did you mean 'count'.; known: .*seed"),
        ({"d": {"count": 0}}, r"'selections\.d\.count': .*greater than or equal to 1 \(got 0\)"),
        ({"d": {"thresholds": [0.5, 0.7]}}, "not strictly falling, such as 0.7, 0.5"),
        ({"d": {"thresholds": [0.5, 0.5]}}, "not strictly falling"),
        ({"d": {"thresholds": "half"}}, r"'selections\.d\.thresholds\.0': .*valid number"),
        ({"two words": {"count": 1}}, "'selections.two words.*should match"),
    ],
)
def test_wrong_rules_are_refused_with_the_reason(
    selections: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(selections=selections)


def test_a_source_names_a_known_domain_and_a_known_selection() -> None:
    rules = {"diverse": Selection(count=3), "few": Selection(count=1)}
    with pytest.raises(SettingsError, match=r"unknown domain 'maths'; did you mean 'math'.; known"):
        load_settings(selections=rules, persona_sources={"maths": "few"}).load_domains()
    with pytest.raises(SettingsError, match=r"unknown selection 'fewer'.*known: diverse, few$"):
        load_settings(selections=rules, persona_sources={"math": "fewer"}).load_domains()
    with pytest.raises(
        SettingsError, match=r"none is configured: .*\[selections\.few\] with count"
    ):
        load_settings(persona_sources={"math": "few"}).load_domains()
    assert load_settings(selections=rules, persona_sources={"math": "few"}).load_domains()


def test_selections_survive_the_way_through_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = {"diverse": Selection(count=3, thresholds=[0.7, 0.5], method="first", seed=9)}
    arguments = load_settings(selections=rules, persona_sources={"math": "diverse"})
    for variable, value in environment_of(arguments).items():
        monkeypatch.setenv(variable, value)
    assert load_settings() == arguments
