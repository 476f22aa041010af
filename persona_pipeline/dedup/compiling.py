"""Compile the kernels by Numba, once per machine and version of their sources.

The machine code is stored in the user's cache, not beside the sources. Those may be read-only, and
Numba would not see that a function which one kernel takes from another has changed.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba
from numba import njit

from persona_pipeline.artifacts.packages import cache_dir


def _keep_machine_code() -> bool:
    """Choose the folder of the machine code, and return whether there is one.

    Without it, every process compiles for 5 seconds.
    """
    sources = b"".join(
        path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*kernel.py"))
    )
    folder = cache_dir() / "numba" / hashlib.blake2b(sources, digest_size=8).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return True


_IS_KEPT = _keep_machine_code()

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function so that it frees the GIL."""
    return cast("Function", njit(cache=_IS_KEPT, nogil=True)(function))


def inlined(function: Function) -> Function:
    """Compile a function into every caller."""
    return cast("Function", njit(cache=_IS_KEPT, nogil=True, inline="always")(function))


def proposing(function: Function) -> Function:
    """Compile a function with sums added in any order, in vector registers.

    It serves what proposes pairs, not what decides.
    """
    return cast("Function", njit(cache=_IS_KEPT, nogil=True, fastmath=True)(function))
