"""What every engine's adapter shares: its command line, the clocks and the files of its answer.

An adapter reads rows, finds duplicates and ends by printing one JSON line. It leaves files in the
work folder: `removed.bin`, the numbers of the rows that it removes, and `pairs.bin`, the similar
pairs as numbers two by two; one of them is absent where the engine has no such answer. All that
needs an import happens before the clock starts: the first rows are deduplicated unmeasured.
"""

import argparse
import json
import re
import resource
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

WARM_UP_ROWS = 4096
"""Enough for every way that an engine chooses between by the number of rows."""
PERMUTATIONS = 128
THREADS = 2
MEMORY_BYTES = 12 << 30
"""An engine that wants more fails by itself; others work on the machine."""
WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Job:
    """The parsed command line."""

    source: Path
    rows: int
    threshold: float
    variant: str
    work: Path


@dataclass(frozen=True, slots=True)
class Matches:
    """What an engine answers: numbers of rows to remove, similar pairs, or both."""

    removed: Iterable[int] | None = None
    pairs: Iterable[tuple[int, int]] | None = None


Find = Callable[[Any, Job], Matches]


def read_job() -> Job:
    """Parse the command line that all adapters have in common."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True, help="JSON lines, Parquet or .npy")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--variant", default="", help="for an engine with more than one way")
    parser.add_argument("--work", type=Path, required=True)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    return Job(**vars(parser.parse_args()))


def run_on_texts(find: Find) -> None:
    """Measure `find` on a list of texts."""
    job = read_job()
    with job.source.open() as lines:
        texts = [json.loads(line) for line in islice(lines, job.rows)]
    measure(find, texts, job)


def run_on_vectors(find: Find) -> None:
    """Measure `find` on float32 unit vectors, one a row."""
    import numpy as np  # noqa: PLC0415 - not every engine's environment has it

    job = read_job()
    measure(find, np.ascontiguousarray(np.load(job.source)[: job.rows]), job)


def measure(find: Find, rows: Any, job: Job) -> None:  # noqa: ANN401 - each engine's own input
    """Warm up, measure, write the answer and report."""
    find(rows[:WARM_UP_ROWS], job)
    cpu_before, wall_before = cpu_seconds(), time.perf_counter()
    matches = find(rows, job)
    numbers = {
        "cpu_s": cpu_seconds() - cpu_before,
        "wall_s": time.perf_counter() - wall_before,
        "process_cpu_s": cpu_seconds(),
        "rss_mb": peak_mb(),
    }
    if matches.removed is not None:
        write_numbers(job.work / "removed.bin", matches.removed)
    if matches.pairs is not None:
        write_numbers(job.work / "pairs.bin", (number for pair in matches.pairs for number in pair))
    print(json.dumps(numbers), flush=True)


def write_numbers(path: Path, numbers: Iterable[int]) -> None:
    """Write 64-bit integers of this machine."""
    path.write_bytes(array("q", map(int, numbers)).tobytes())


def cpu_seconds() -> float:
    """User and system time of this process and of the children that it has waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_mb() -> float:
    """Peak memory; `ru_maxrss` of this process would count the parent that it was forked from."""
    status = Path("/proc/self/status").read_text()
    own_kb = int(re.findall(r"VmHWM:\s+(\d+)", status)[0])
    children_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(own_kb, children_kb) / 1024


def iter_words(texts: Iterable[str]) -> Iterator[list[str]]:
    """The words of each text, for engines that want them."""
    return (WORD.findall(text.lower()) for text in texts)


def choose_bands(threshold: float) -> tuple[int, int]:
    """Bands and rows a band whose step is nearest the threshold, for engines that do not choose."""
    choices = [(bands, PERMUTATIONS // bands) for bands in range(2, PERMUTATIONS + 1)]
    return min(choices, key=lambda choice: abs((1 / choice[0]) ** (1 / choice[1]) - threshold))
