import os
from pathlib import Path

import pytest

from persona_pipeline.settings import PREFIX


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's settings, .env or TOML file."""
    for variable in os.environ:
        if variable.startswith(PREFIX):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
