"""Open the Dagster instance that the command line runs on: the one that 'dagster dev' shows."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef

from persona_pipeline.errors import PipelineError
from persona_pipeline.locks import exclusive_lock
from persona_pipeline.store.data_folder import DataFolder

HOME_VARIABLE = "DAGSTER_HOME"
NO_CAPTURE = {
    # Stages print to this terminal. Capturing it would start four processes for each stage.
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    },
}
UNREADABLE = re.compile(r"\?|%[0-9A-Fa-f]{2}")
"""What Dagster 1.13 does not escape when it builds the address of a SQLite file from a path."""


@contextmanager
def open_instance(folder: DataFolder, root: Path) -> Iterator[dg.DagsterInstance]:
    """Open the instance of DAGSTER_HOME, or else of `root`'s dagster.yaml, in the data directory.

    Raises:
        PipelineError: the instance does not open; the message repeats that of Dagster.
    """
    home = os.environ.get(HOME_VARIABLE)
    with exclusive_lock(
        folder.locks_dir / "dagster"
    ):  # two processes that create its tables both fail
        try:
            ref = _chosen(Path(home)) if home else _beside_the_data(folder, root)
            instance = dg.DagsterInstance.from_ref(ref)
        except PipelineError:
            raise
        except Exception as error:  # the configured storage may raise anything
            where = home or folder.dagster_dir
            msg = f"the Dagster instance in {where} does not open: {_explain(error)}"
            raise PipelineError(msg) from error
    with instance:
        yield instance


def _chosen(home: Path) -> InstanceRef:
    """Read dagster.yaml in the folder that DAGSTER_HOME names. It may name any storage."""
    if not (home.is_absolute() and home.is_dir()):
        msg = f"{HOME_VARIABLE} must be the absolute path of a folder that is there (got '{home}')"
        raise PipelineError(msg)
    return InstanceRef.from_dir(str(home), overrides=NO_CAPTURE)


def _beside_the_data(folder: DataFolder, root: Path) -> InstanceRef:
    """Read the checkout's dagster.yaml, with its storage in the configured data directory."""
    home = folder.dagster_dir.absolute()
    if UNREADABLE.search(str(home)):
        msg = (
            f"data_dir {str(folder.data_dir)!r} has a '?' or a '%' with two digits, which Dagster "
            "takes for parts of the address of its SQLite files: name a data_dir without them, or "
            f"in {HOME_VARIABLE} a folder with a dagster.yaml of your own"
        )
        raise PipelineError(msg)
    home.mkdir(parents=True, exist_ok=True)
    overrides = NO_CAPTURE | storage_in(home)
    return InstanceRef.from_dir(str(home), config_dir=str(root), overrides=overrides)


def storage_in(home: Path) -> dict[str, dict[str, Any]]:
    """Return what an instance's file says to keep everything in a folder."""
    config = {"config": {"base_dir": str(home)}}
    storage = {"module": "assets.instance_storage", "class": "OpenStorage", **config}
    artifacts = {
        "module": "dagster._core.storage.root",
        "class": "LocalArtifactStorage",
        **config,
    }
    return {"storage": {"custom": storage}, "local_artifact_storage": artifacts}


def _explain(error: Exception) -> str:
    """Say what is wrong with each value in the file, or why its storage did not connect."""
    if isinstance(error, dg.DagsterInvalidConfigError):
        return "; ".join(item.message.partition("\n\nStack Trace")[0] for item in error.errors)
    return str(error.__cause__ or error)
