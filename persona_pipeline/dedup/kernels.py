"""The kernels, each imported when it is first used, and compiled when there is enough to compare.

Most commands compare nothing. So no other module of this package imports a kernel: it writes
`kernels.join.count_keys(...)`, and before that what it expects to visit: `kernels.expect(...)`.
"""

from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

from persona_pipeline.dedup.compiling import compiled_edition, expect, is_due

if TYPE_CHECKING:
    from persona_pipeline.dedup.vectors import exact_kernel as exact
    from persona_pipeline.dedup.vectors import farthest_kernel as farthest
    from persona_pipeline.dedup.vectors import ivf_kernel as ivf
    from persona_pipeline.dedup.words import join_kernel as join
    from persona_pipeline.dedup.words import minhash_kernel as minhash
    from persona_pipeline.dedup.words import word_sets_kernel as word_sets

__all__ = ["exact", "expect", "farthest", "is_due", "ivf", "join", "minhash", "word_sets"]

_FOLDERS = {
    "exact": "vectors",
    "farthest": "vectors",
    "ivf": "vectors",
    "join": "words",
    "minhash": "words",
    "word_sets": "words",
}
_ALWAYS_COMPILED = {"farthest", "ivf", "minhash"}
"""Kernels that a first run does not use, and that would take long in Python."""


def __getattr__(name: str) -> ModuleType | SimpleNamespace:
    """Import a kernel by its name; Python calls this for every use, which takes 1 microsecond."""
    if name not in _FOLDERS:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    module = import_module(f"persona_pipeline.dedup.{_FOLDERS[name]}.{name}_kernel")
    return compiled_edition(module) if is_due() or name in _ALWAYS_COMPILED else module
