"""Run the main job from the command line."""

import importlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import click
import yaml
from pydantic import SecretStr
from pydantic_core import to_jsonable_python
from rich.console import Console

from persona_pipeline.cli.estimate import print_expected, print_stopped
from persona_pipeline.cli.options import (
    job_options,
    job_settings,
)
from persona_pipeline.cli.run_report import (
    RunBaseline,
    capture_baseline,
    print_next,
    print_side_effects,
    print_summary,
)
from persona_pipeline.cli.terminal import open_reporter
from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.gateway.budget import BudgetExceeded
from persona_pipeline.llm.progress import reporting_to
from persona_pipeline.models import prefetch
from persona_pipeline.project import opened_store
from persona_pipeline.settings import PREFIX, Settings

WORKSPACE = "workspace.yaml"


def find_root(start: Path | None = None) -> Path:
    """The nearest folder, from `start` upwards, that holds workspace.yaml.

    Raises:
        PipelineError: there is none: the command needs a checkout.
    """
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / WORKSPACE).is_file():
            return folder
    msg = (
        f"no {WORKSPACE} in {here} or above it: this command runs the assets of a checkout of "
        "persona_pipeline; clone the repository and run it there"
    )
    raise PipelineError(msg)


def load_main_job(root: Path) -> ModuleType:
    """The module beside the definitions that runs the main job."""
    workspace = yaml.safe_load((root / WORKSPACE).read_text(encoding="utf-8"))
    definitions: str = workspace["load_from"][0]["python_module"]["module_name"]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"{definitions.rpartition('.')[0]}.main_job")


STOPPED_AT_BUDGET = 3
"""Exit status of a run that ended at its cap: neither done nor failed."""


@click.command()
@job_options
def run(**arguments: object) -> None:
    """Run the main job: documents to personas to records in every domain."""
    settings = job_settings(arguments)
    started = time.monotonic()
    console = Console()
    root = find_root()
    os.environ.update(environment_of(settings))  # the code location reads the same settings
    _quiet_libraries()
    baselines: list[RunBaseline] = []

    def begin(shards: list[str]) -> None:
        baselines.append(capture_baseline(opened_store(settings), settings, shards))
        print_expected(console, settings, shards)

    try:
        with open_reporter(console) as reporter, reporting_to(reporter):
            prefetch(settings)
            load_main_job(root).run_main_job(settings, root, before_buying=begin)
    except BudgetExceeded as exceeded:
        [baseline] = baselines
        print_stopped(console, settings, baseline.shards, exceeded)
        print_side_effects(console, opened_store(settings), settings, baseline)
        sys.exit(STOPPED_AT_BUDGET)
    [baseline] = baselines
    print_summary(console, settings, baseline.shards, time.monotonic() - started)
    print_side_effects(console, opened_store(settings), settings, baseline)
    print_next(console, settings, arguments)


def _quiet_libraries() -> None:
    for name in ("dagster", "LiteLLM", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def environment_of(settings: Settings) -> dict[str, str]:
    """The chosen settings as environment variables, for a child process or a code location."""
    variables = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        variables[f"{PREFIX}{name.upper()}"] = _as_variable(value)
    return variables


def _as_variable(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return json.dumps(value, default=to_jsonable_python)
    return str(value)
