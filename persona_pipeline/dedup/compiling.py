"""Run kernels as Python while a process has little to compare, and compiled by Numba from then on.

Numba takes 0.7 s to import, and 5 to 17 s to compile all kernels when a machine needs them first. A
first run of 20 documents compares some 100 texts, which take 0.2 s in Python. Both ways give the
same bits: a kernel is one function, and Numba compiles that.

The machine code is stored in the user's cache, not beside the sources. Those may be read-only, and
Numba would not see that a function which one kernel takes from another has changed.
"""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from threading import RLock
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np

from persona_pipeline.artifacts.packages import cache_dir

INTERPRETED = 200_000
"""Elements (bytes of texts, words of sets, numbers of vectors) that a process visits in Python, at
1 to 3 microseconds each, before it compiles. So waiting costs at most what importing Numba does."""

Function = TypeVar("Function", bound=Callable[..., object])

_options: dict[object, dict[str, Any]] = {}
"""How Numba compiles each kernel."""
_namespaces: dict[str, dict[str, Any]] = {}
"""The globals of the compiled kernels of each module."""
_lock = RLock()


@dataclass(slots=True)
class Work:
    """What the kernels of this process had to do so far."""

    visited: int = 0
    """Elements that they visited."""


work = Work()


def compiled(function: Function) -> Function:
    """Mark a function to be compiled so that it frees the GIL."""

    @wraps(function)
    def interpreted(*arguments: object) -> object:
        with np.errstate(over="ignore"):  # sums and products of hashes wrap around
            return function(*arguments)

    _options[interpreted] = {}
    return cast("Function", interpreted)


def inlined(function: Function) -> Function:
    """Mark a function to be compiled into every caller."""
    _options[function] = {"inline": "always"}
    return function


def proposing(function: Function) -> Function:
    """Mark a function to be compiled with sums added in any order, in vector registers.

    It serves what proposes pairs, not what decides.
    """
    _options[function] = {"fastmath": True}
    return function


def expect(elements: int) -> None:
    """Count elements that kernels are about to visit: from `INTERPRETED` on, they are compiled."""
    work.visited += elements


def is_due() -> bool:
    """Return whether the process has so much to compare that its kernels are compiled."""
    return work.visited >= INTERPRETED


@cache
def compiled_edition(module: ModuleType) -> SimpleNamespace:
    """Return the names of a module of kernels, with the kernels compiled when first called."""
    with _lock:
        return SimpleNamespace(**_globals_of(module.__name__))


def _globals_of(module: str) -> dict[str, Any]:
    """Return the module's globals, in which its kernels, and those of others, are compiled."""
    if module in _namespaces:
        return _namespaces[module]
    try:
        names = _namespaces[module] = dict(vars(sys.modules[module]))
        for name, value in list(names.items()):
            if isinstance(value, FunctionType) and value in _options:
                own = names if value.__module__ == module else _globals_of(value.__module__)
                names[name] = _compile(value, names) if own is names else own[value.__name__]
    except BaseException:  # an interrupt while Numba is imported: half of them would be no kernels
        _namespaces.pop(module, None)
        raise
    return names


def _compile(kernel: FunctionType, names: dict[str, Any]) -> object:
    """Return Numba's dispatcher of a kernel whose globals are these names."""
    import numba  # noqa: PLC0415 - 0.7 s, which processes with little to compare need not wait

    is_kept = _keep_machine_code()
    source = cast("FunctionType", getattr(kernel, "__wrapped__", kernel))
    function = FunctionType(source.__code__, names, source.__name__, source.__defaults__)
    function.__module__, function.__qualname__ = source.__module__, source.__qualname__
    return numba.njit(cache=is_kept, nogil=True, **_options[kernel])(function)


@cache
def _keep_machine_code() -> bool:
    """Choose the folder of the machine code, and return whether there is one.

    Without it, every process compiles for 5 seconds.
    """
    import numba  # noqa: PLC0415

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
