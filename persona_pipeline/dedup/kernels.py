"""The compiled kernels, each imported when it is first used.

Numba takes 0.7 s to import, and most commands compare nothing. So no other module of this package
imports a kernel: it writes `kernels.join.count_keys(...)`.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persona_pipeline.dedup.vectors import exact_kernel as exact
    from persona_pipeline.dedup.vectors import farthest_kernel as farthest
    from persona_pipeline.dedup.vectors import ivf_kernel as ivf
    from persona_pipeline.dedup.words import join_kernel as join
    from persona_pipeline.dedup.words import minhash_kernel as minhash
    from persona_pipeline.dedup.words import word_sets_kernel as word_sets

__all__ = ["exact", "farthest", "ivf", "join", "minhash", "word_sets"]

_FOLDERS = {
    "exact": "vectors",
    "farthest": "vectors",
    "ivf": "vectors",
    "join": "words",
    "minhash": "words",
    "word_sets": "words",
}


def __getattr__(name: str) -> ModuleType:
    """Import a kernel by its name; Python calls this for every use, which takes 1 microsecond."""
    if name not in _FOLDERS:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return import_module(f"persona_pipeline.dedup.{_FOLDERS[name]}.{name}_kernel")
