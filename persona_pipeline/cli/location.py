"""Finds the code location that workspace.yaml names: the library itself never imports Dagster."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import yaml

from persona_pipeline.errors import PipelineError

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
