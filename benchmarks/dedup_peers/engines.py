"""Which engines there are, and how one is run: for `benchmarks/dedup.py`, not for the adapters."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from contenders import HERE, NOTE_LENGTH, Contender, UnavailableError, find_interpreter
from dedup_truth import Pairs, Rows, Verdict, judge, keep_first

THREADS = 2
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "NUMBA_NUM_THREADS",
)
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True, slots=True)
class Engine(Contender):
    """One entry of a table; `variant` is for an adapter with more than one way."""

    variant: str = ""
    reads: str = "jsonl"

    @property
    def path(self) -> Path:
        """The adapter."""
        return HERE / self.file


TEXT = (
    Engine("ours", "dedup_peers/ours_jaccard.py", is_ours=True, reads="parquet"),
    Engine("rensa", "dedup_peers/rensa_lsh.py"),
    Engine("rensa-tuned", "dedup_peers/rensa_lsh.py", variant="tuned"),
    Engine("rensa-rho", "dedup_peers/rensa_lsh.py", variant="rho"),
    Engine("gaoya", "dedup_peers/gaoya_lsh.py"),
    Engine("datasketch", "dedup_peers/datasketch_lsh.py"),
    Engine("text-dedup", "dedup_peers/text_dedup_minhash.py"),
    Engine("datatrove", "dedup_peers/datatrove_minhash.py"),
)
EMBEDDINGS = (
    Engine("ours", "dedup_peers/ours_semantic.py", is_ours=True, reads="npy"),
    Engine("ours-ivf", "dedup_peers/ours_semantic.py", variant="ivf", is_ours=True, reads="npy"),
    Engine("semhash", "dedup_peers/semhash_vectors.py", reads="npy"),
    Engine("faiss-flat", "dedup_peers/faiss_index.py", variant="flat", reads="npy"),
    Engine("faiss-ivf", "dedup_peers/faiss_index.py", variant="ivf", reads="npy"),
    Engine("usearch-exact", "dedup_peers/usearch_index.py", variant="exact", reads="npy"),
    Engine("usearch-hnsw", "dedup_peers/usearch_index.py", variant="hnsw", reads="npy"),
)
TRUTH = Engine("truth", "dedup_truth.py")


@dataclass(frozen=True, slots=True)
class Task:
    """One question to all engines; `truth` where brute force is affordable."""

    sources: dict[str, Path]
    rows: int
    threshold: float
    truth: Pairs | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    engine: str
    rows: int
    threshold: float
    status: str = "ok"
    cpu_s: float = 0.0
    wall_s: float = 0.0
    process_cpu_s: float = 0.0
    rss_mb: float = 0.0
    removed: int | None = None
    verdict: Verdict | None = None
    note: str = ""


def run_engine(engine: Engine, task: Task, limit_s: float, repeats: int = 1) -> Row:
    """The run with the fewest CPU-seconds of some: others on the machine only ever add to them."""
    runs = [run_once(engine, task, limit_s) for _ in range(repeats)]
    return min(runs, key=lambda row: (row.status != "ok", row.cpu_s))


def run_once(engine: Engine, task: Task, limit_s: float) -> Row:
    """Run an adapter to its end and judge its answer."""
    row = Row(engine.name, task.rows, task.threshold)
    with tempfile.TemporaryDirectory(prefix="dedup-", ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        arguments = {
            "--source": task.sources[engine.reads],
            "--rows": task.rows,
            "--threshold": task.threshold,
            "--variant": engine.variant,
            "--work": work,
        }
        parts = [f"{name}={value}" for name, value in arguments.items()]
        try:
            last_line = run_script(engine, parts, work, limit_s)
        except UnavailableError as error:
            return replace(row, status="failed", note=str(error))
        report: dict[str, Any] = json.loads(last_line)
        removed, verdict = read_answer(task, work)
        return replace(row, **report, removed=removed, verdict=verdict)


def read_answer(task: Task, work: Path) -> tuple[int | None, Verdict | None]:
    """How many rows an engine removes, and how right that is; pairs alone are resolved here."""
    removed, pairs = (read_numbers(work / f"{name}.bin") for name in ("removed", "pairs"))
    pairs = None if pairs is None else pairs.reshape(-1, 2)
    if removed is None and pairs is not None:
        ordered = np.unique(np.sort(pairs, axis=1), axis=0)
        removed = keep_first(Pairs(ordered[:, 0], ordered[:, 1], np.ones(len(ordered))), task.rows)
    if removed is None:
        return None, None
    verdict = judge(task.truth, removed, pairs, task.rows) if task.truth else None
    return len(removed), verdict


def read_numbers(path: Path) -> Rows | None:
    """What the adapters' `write_numbers` wrote; None where an engine has no such answer."""
    return np.fromfile(path, dtype=np.int64) if path.exists() else None


def run_script(engine: Engine, arguments: list[str], work: Path, limit_s: float) -> str:
    """Run a script in its own environment and process group; the last line that it printed."""
    command = [str(find_interpreter(engine)), str(engine.path), *arguments]
    threads = dict.fromkeys(THREAD_VARIABLES, str(THREADS))
    with (work / "output.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - a script of ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=work,
            env=os.environ | OFFLINE | threads | {"HF_HOME": str(work / "huggingface")},
            start_new_session=True,
        )
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired as error:
        message = f"took longer than {limit_s:.0f} s"
        raise UnavailableError(message) from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    lines = (work / "output.log").read_text(errors="replace").split("\n")
    words = [line.strip() for line in lines if line.strip()] or ["no output"]
    if code:
        raise UnavailableError(words[-1][:NOTE_LENGTH])
    return words[-1]
