import os
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

from persona_pipeline.process import collect_less_often
from persona_pipeline.settings import PREFIX

pytest_plugins = ["tests.support.fixtures"]
ROOT = Path(__file__).parent.parent

# Containers often set this: then each process that a test starts compiles all it imports once more,
# 10 of the 28 CPU-s of a small run. The bytecode goes where it is in nobody's way.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    os.environ["PYTHONPYCACHEPREFIX"] = str(ROOT / ".pytest_cache" / "bytecode")
    sys.pycache_prefix, sys.dont_write_bytecode = os.environ["PYTHONPYCACHEPREFIX"], False
collect_less_often()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is deaf to it

for profile, examples in {"pr": 25, "nightly": 200}.items():
    hypothesis.settings.register_profile(profile, max_examples=examples, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pr"))


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    parser.addoption("--kills", type=int, default=4, help="of processes during a long backfill")
    if not pluginmanager.hasplugin("xdist"):  # with -p no:xdist, pyproject.toml names its options
        parser.addoption("--numprocesses", help="nothing: xdist is off")
        parser.addoption("--dist", help="nothing: xdist is off")


@pytest.hookimpl(optionalhook=True)  # with -p no:xdist, nobody asks
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Take one worker more than there are cores: tests wait for others a quarter of the time.

    3,389 tests took 650 s with three workers on two cores, and 702 s with two; four took 730 s.
    """
    del config
    return (os.cpu_count() or 1) + 1


SHARED = ("finished_project", "finished", "served_files", "done", "dev_server")
"""Fixtures that take ten seconds and more: all tests of one go to one worker, which makes it."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: compressed ones hold the second in which they were made.

    The workers of xdist collect at different seconds, and refuse to run tests that differ.
    """
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests that share a costly fixture, and those that may not run beside each other."""
    for item in items:
        serial = ["serial"] if item.get_closest_marker("serial") else []
        shared = [name for name in SHARED if name in getattr(item, "fixturenames", ())]
        for name in [*serial, *shared][:1]:
            item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's settings, .env, TOML file or Dagster instance."""
    for variable in os.environ:
        if variable.startswith((PREFIX, "DAGSTER_")):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
