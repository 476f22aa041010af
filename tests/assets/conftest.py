from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.support.platform import KeptProject, Platform, open_platform


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def platform(tmp_path: Path, instance: dg.DagsterInstance) -> Platform:
    """Write four pages, which make two shards, and register none."""
    return open_platform(tmp_path, instance)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> KeptProject:
    """Make the files of `finished_platform` once."""
    project = KeptProject(tmp_path_factory.mktemp("finished"))
    with project.instance() as instance:
        platform = open_platform(project.folder, instance)
        for shard in platform.register():
            assert platform.run(shard).success
    project.keep()
    return project


@pytest.fixture
def finished_platform(finished: KeptProject) -> Iterator[Platform]:
    """Restore four pages and the finished main job of both shards. A test may change them."""
    finished.put_back()
    with finished.instance() as instance:
        yield open_platform(finished.folder, instance)
