"""What whole runs cost, beside an older build: a first run, the same again, and one shard more.

    uv run python benchmarks/pipeline.py                              # 5,000 Wikipedia pages
    uv run python benchmarks/pipeline.py --documents 500 --base v0.1  # beside a tag or a commit

Both builds run in processes of their own, one after the other, with `fake/demo`, whose answers cost
nothing, and in data directories of their own. The older one is checked out beside this one and uses
the same environment. CPU-seconds count user and system time of the command and its children.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import duckdb
from calls import tell

ROOT = Path(__file__).parent.parent
SHARD = 1000
CHOSEN = {
    "PERSONA_PIPELINE_MODEL": "fake/demo",
    "PERSONA_PIPELINE_EMBEDDING_MODEL": "fake/embedder",
    "PERSONA_PIPELINE_SHARD_SIZE": str(SHARD),
}


@dataclass(frozen=True)
class Cost:
    """What a command cost, and the calls that its database has then."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    calls: int

    def __str__(self) -> str:
        """One row of a table."""
        return (
            f"{self.wall_s:8.1f} s wall {self.cpu_s:8.1f} CPU-s {self.peak_mb:6.0f} MB"
            f" {self.calls:8,} calls"
        )


def run(
    build: Path,
    data: Path,
    documents: int,
    source: str | Path = "wikipedia",
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Cost:
    """Run the main job of a build in a process of its own, with other `settings` by variable."""
    command = [sys.executable, "-m", "persona_pipeline", "run"]
    arguments = ["--source", str(source), "--documents", str(documents), "--data-dir", str(data)]
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*command, *arguments],
        cwd=build,
        env={**os.environ, **CHOSEN, **settings, "PYTHONPATH": str(build)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the run of {build} ended with {process.returncode}")
    wall, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    with duckdb.connect(str(data / "published.duckdb"), read_only=True) as connection:
        [(calls,)] = connection.sql("select count(*) from llm.calls").fetchall()
    return Cost(wall, cpu, usage.ru_maxrss / 1024, calls)


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Check out a revision beside this one."""
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder, "build")
        add = ["git", "worktree", "add", "--detach", str(build), revision]
        subprocess.run(add, cwd=ROOT, check=True, capture_output=True)  # noqa: S603
        try:
            yield build
        finally:
            remove = ["git", "worktree", "remove", "--force", str(build)]
            subprocess.run(remove, cwd=ROOT, check=True)  # noqa: S603


def main() -> None:
    """Run both builds in turn, and print each cost and the ratio of CPU-seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--base", help="a commit to compare with")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.base is None:
            compare({"this": ROOT}, Path(folder), options.documents)
            return
        with checked_out(options.base) as build:
            compare({options.base: build, "this": ROOT}, Path(folder), options.documents)


def compare(builds: dict[str, Path], folder: Path, documents: int) -> None:
    """Print what each kind of run costs with each build."""
    kinds = {"first": documents, "again": documents, "one shard more": documents + SHARD}
    for kind, count in kinds.items():
        costs = {name: run(build, folder / name, count) for name, build in builds.items()}
        for name, cost in costs.items():
            tell(f"{kind:15} {name:10} {cost}")
        first, *_, last = costs.values()
        if first is not last:
            tell(f"{kind:15} ratio of CPU-seconds {last.cpu_s / first.cpu_s:.3f}")


if __name__ == "__main__":
    main()
