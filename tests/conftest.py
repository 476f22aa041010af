import os
import signal
from pathlib import Path

import pytest

from persona_pipeline.settings import PREFIX

pytest_plugins = ["tests.support.fixtures"]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is deaf to it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=4, help="of processes during a backfill")


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's settings, .env, TOML file or Dagster instance."""
    for variable in os.environ:
        if variable.startswith((PREFIX, "DAGSTER_")):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
