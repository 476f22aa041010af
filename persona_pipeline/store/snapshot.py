"""Copy a database file for readers, who may keep the copy open."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from persona_pipeline.errors import StoreError

LEFT_BEHIND_S = 3600
"""Age in seconds from which on the part of a copy is left over from a killed process."""


@contextmanager
def new_copy(source: Path, target: Path) -> Iterator[Path]:
    """Yield a copy of `source`, with its time of modification, which may be moved to `target`.

    A child process copies: closing the file in this process would release DuckDB's lock on it.

    Raises:
        StoreError: the copy cannot be written.
    """
    for left in target.parent.glob(f"{target.name}.*.tmp"):
        if time.time() - left.stat().st_ctime > LEFT_BEHIND_S:
            left.unlink(missing_ok=True)
    written_ns = source.stat().st_mtime_ns
    try:
        file, name = tempfile.mkstemp(".tmp", f"{target.name}.", target.parent)
        os.close(file)
    except OSError as error:
        msg = f"{target} cannot be written: {error.strerror}"
        raise StoreError(msg) from error
    copy = Path(name)
    try:
        command = ["cp", "-p", str(source), str(copy)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - the system's own
        os.utime(copy, ns=(written_ns, written_ns))  # some 'cp' keep whole seconds only
        yield copy
    except subprocess.CalledProcessError as error:
        msg = f"{target} cannot be written: {error.stderr.decode().strip()}"
        raise StoreError(msg) from error
    finally:
        copy.unlink(missing_ok=True)


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
