"""Lock files between processes. The kernel releases a lock when its holder dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock of `path`, and hold it until the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, which other processes may hold, too, until the block ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def liveness_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a file while this process lives, and delete the file at a regular end."""
    with exclusive_lock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_held(path: Path, *, even_shared: bool = False) -> bool:
    """Tell whether a living process holds the lock of a file; `even_shared`: or shares it."""
    kind = fcntl.LOCK_EX if even_shared else fcntl.LOCK_SH
    try:
        with path.open() as file:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
