from pathlib import Path

import pytest

from tests.support.commands import write_pages


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Write a folder of six short pages."""
    return write_pages(tmp_path / "pages")
