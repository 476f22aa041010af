"""The kernels: each is there by its name, and none imports Numba before it is compiled."""

import subprocess
import sys

import pytest

from persona_pipeline.dedup import kernels


def test_no_module_imports_numba() -> None:
    code = (
        "import importlib, pkgutil, sys, persona_pipeline.dedup as package;"
        "names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.')];"
        "[importlib.import_module(name) for name in names];"
        "sys.exit('numba' in sys.modules or len(names) < 25)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_kernel_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'cosine'"):
        _ = kernels.cosine
    assert {name for name in kernels.__all__ if hasattr(kernels, name)} == {*kernels.__all__}
