"""Run the main job from the command line."""

import importlib
import logging
import sys
import time
from pathlib import Path
from types import ModuleType

import click
import yaml

from persona_pipeline.cli.estimate import print_expected, print_stopped
from persona_pipeline.cli.options import job_options, job_project
from persona_pipeline.cli.run_report import (
    capture_baseline,
    may_have_more,
    print_next,
    print_side_effects,
    print_summary,
    read_run_report,
)
from persona_pipeline.cli.terminal import open_console, open_reporter, showing_warnings
from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.gateway.budget import BudgetExceeded
from persona_pipeline.llm.progress import reporting_to
from persona_pipeline.models import needed_corpora, needed_models, prefetch

WORKSPACE = "workspace.yaml"
STOPPED_AT_BUDGET = 3
"""Exit status of a run that stopped at its cap: it is neither done nor failed."""


@click.command()
@job_options
def run(**arguments: object) -> None:
    """Run the main job: documents to personas to records in every domain."""
    project = job_project(arguments)
    started = time.monotonic()
    console, root = open_console(), find_root()
    _quiet_libraries()
    stopped: BudgetExceeded | None = None
    with (
        open_reporter(console) as reporter,
        reporting_to(reporter),
        showing_warnings(open_console(stderr=True)),
    ):
        prefetch(needed_corpora(project.settings))
        with load_main_job(root).open_main_job(project, root) as job:
            shards = job.register()
            baseline = capture_baseline(project, shards)
            undone = project.undone_shards(shards)
            print_expected(console, project, shards, undone)
            if undone:
                prefetch(needed_models(project.settings))
            try:
                job.run(shards)
            except BudgetExceeded as exceeded:
                stopped = exceeded
    report = read_run_report(project, baseline)
    if stopped:
        print_stopped(console, project, shards, stopped)
        print_side_effects(console, report)
        sys.exit(STOPPED_AT_BUDGET)
    print_summary(console, report, time.monotonic() - started)
    print_side_effects(console, report)
    has_more = may_have_more(report, project.settings.documents)
    print_next(console, project.settings, arguments, has_more=has_more)


def find_root(start: Path | None = None) -> Path:
    """Return the nearest folder, from `start` upwards, that holds workspace.yaml.

    Raises:
        PipelineError: no folder holds it; the command needs a checkout.
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
    """Import the module beside the definitions that runs the main job."""
    workspace = yaml.safe_load((root / WORKSPACE).read_text(encoding="utf-8"))
    definitions: str = workspace["load_from"][0]["python_module"]["module_name"]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"{definitions.rpartition('.')[0]}.main_job")


def _quiet_libraries() -> None:
    # the pool of connections logs each interrupt that it meets
    for name in ("dagster", "LiteLLM", "httpx", "sqlalchemy.pool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
