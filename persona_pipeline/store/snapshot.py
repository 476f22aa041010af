"""Copy a database file for readers, who may keep the copy open."""

import os
import subprocess
import time
from pathlib import Path

from persona_pipeline.errors import StoreError

LEFT_BEHIND_S = 3600
"""Age in seconds from which on the part of a copy is left over from a killed process."""


def copy_file(source: Path, target: Path) -> bool:
    """Replace `target` by a copy that has the source's time of modification.

    A child process copies: closing the file in this process would release DuckDB's lock on it.
    Returns whether the source stayed as it was. If it did not, the target is not replaced.

    Raises:
        StoreError: the copy cannot be written.
    """
    for left in target.parent.glob(f"{target.name}.*.tmp"):
        if time.time() - left.stat().st_ctime > LEFT_BEHIND_S:
            left.unlink(missing_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        command = ["cp", "-p", str(source), str(part)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - the system's own
        if is_whole := is_copy(source, part):
            part.replace(target)
    except subprocess.CalledProcessError as error:
        msg = f"{target} cannot be written: {error.stderr.decode().strip()}"
        raise StoreError(msg) from error
    finally:
        part.unlink(missing_ok=True)
    return is_whole


def is_published(database: Path, snapshot: Path) -> bool:
    """Tell whether the snapshot holds all that was committed."""
    return is_copy(database, snapshot) and not write_ahead_log(database).exists()


def write_ahead_log(database: Path) -> Path:
    """Name the file where DuckDB keeps what is committed until the database is closed."""
    return database.with_name(f"{database.name}.wal")


def is_copy(source: Path, target: Path) -> bool:
    """Tell whether `target` is a copy of the source as it is now, by time and size."""
    try:
        one, other = source.stat(), target.stat()
    except FileNotFoundError:
        return False
    return (one.st_mtime_ns, one.st_size) == (other.st_mtime_ns, other.st_size)
