import os
import signal
from pathlib import Path

import hypothesis
import pytest

from persona_pipeline.settings import PREFIX

pytest_plugins = ["tests.support.fixtures"]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is deaf to it

for profile, examples in {"pr": 25, "nightly": 200}.items():
    hypothesis.settings.register_profile(profile, max_examples=examples, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pr"))


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    parser.addoption("--kills", type=int, default=4, help="of processes during a long backfill")
    if not pluginmanager.hasplugin("xdist"):  # with -p no:xdist, pyproject.toml names its options
        parser.addoption("--numprocesses", help="nothing: xdist is off")
        parser.addoption("--dist", help="nothing: xdist is off")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that need the machine's time for themselves to one worker."""
    for item in items:
        if item.get_closest_marker("serial"):
            item.add_marker(pytest.mark.xdist_group("serial"))


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's settings, .env, TOML file or Dagster instance."""
    for variable in os.environ:
        if variable.startswith((PREFIX, "DAGSTER_")):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
