"""Runs our deduplication and its peers over the same personas and prints a table per kind.

    uv run python benchmarks/dedup.py                       # both tables, an hour or so
    uv run python benchmarks/dedup.py --text --only ours,rensa --thresholds 0.9
    uv run python benchmarks/dedup.py --text --only ours --ours-rows 1000000,2000000 --growth
    uv run python benchmarks/dedup.py --file personas.parquet --rows 20000

The first table is of texts (Jaccard similarity of word sets), the second of embeddings (cosine).
Quality is judged against brute force, where that is affordable. CPU-seconds are those of the
deduplication, after some rows to warm up; `process` has the imports and the reading too. Peers live
in virtual environments under `benchmarks/.venvs`, made on first use; one that cannot be installed
is skipped with a reason.
"""

import argparse
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from calls import names_among, read_numbers, tell
from contenders import HERE, UnavailableError, find_interpreter, requirements
from dedup_peers.engines import (
    EMBEDDINGS,
    TEXT,
    THREADS,
    TRUTH,
    Engine,
    Row,
    Task,
    run_engine,
    run_script,
)
from dedup_truth import Pairs, keep_first, load_pairs
from persona_sentences import write_personas

from persona_pipeline.artifacts.packages import fetch
from persona_pipeline.llm.clients.embeddings import open_minilm

CACHE = HERE / ".cache"
COSINE = 0.9
TRUTH_LIMIT_S = 3600
MINILM = "minilm-l6-int8"
TITLES = (
    "engine",
    "rows",
    "threshold",
    "CPU-s",
    "/ ours",
    "wall s",
    "process CPU-s",
    "RSS MB",
    "recall",
    "precision",
    "duplicates left",
    "false removals",
    "removed",
)


class Inputs:
    """The personas in each form that an engine reads, and what is true of them.

    What takes long is kept in the cache, under a hash of what it was made from.
    """

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        """Make or read as many rows as the largest run needs."""
        self._work = work
        self._truth_rows: int = options.truth_rows
        self.sources = {name: work / f"personas.{name}" for name in ("parquet", "jsonl")}
        most = max([*options.rows, *options.ours_rows, options.embedded_rows])
        if options.file:
            self.origin = str(options.file)
            read_personas(options.file).head(most).sink_parquet(self.sources["parquet"])
        else:
            tell(f"writing {most:,} personas")
            words = write_personas(self.sources["parquet"], most, options.seed)
            self.origin = f"personas {words}, seed {options.seed}"
        self.rows: int = pl.scan_parquet(self.sources["parquet"]).select(pl.len()).collect().item()
        self._write_lines(max([*options.rows, options.embedded_rows, self._truth_rows]))

    def text_task(self, rows: int, threshold: float, lowest: float) -> Task:
        """A question about texts; the truth is found once for all thresholds from `lowest` on."""
        truth = None
        if rows <= self._truth_rows:
            part = self._work / f"{rows}.jsonl"
            part.write_text("".join(self._lines(rows)))
            truth = find_truth("--texts", part, lowest).above(threshold)
        return Task(self.sources, rows, threshold, truth)

    def vector_task(self, rows: int) -> Task:
        """A question about the embeddings."""
        vectors = self._embed(rows)
        truth = find_truth("--vectors", vectors, COSINE)
        return Task({"npy": vectors}, rows, COSINE, truth)

    def _write_lines(self, rows: int) -> None:
        personas = pl.read_parquet(self.sources["parquet"], columns=["persona"], n_rows=rows)
        with self.sources["jsonl"].open("w") as file:
            file.writelines(json.dumps(text) + "\n" for text in personas["persona"])

    def _lines(self, rows: int) -> list[str]:
        with self.sources["jsonl"].open() as file:
            return list(islice(file, rows))

    def _embed(self, rows: int) -> Path:
        lines = self._lines(rows)
        path = CACHE / f"{MINILM}-{short_hash(''.join(lines).encode())}.npy"
        if not path.exists():
            tell(f"embedding {rows:,} personas, at some 300 to 500 a second")
            model = open_minilm(MINILM, fetch(MINILM), fetch("minilm-l6-tokenizer"))
            np.save(path, model.embed([json.loads(line) for line in lines]))
        return path


def clip_sizes(options: argparse.Namespace, rows: int) -> None:
    """Ask for no more rows than there are."""
    options.rows, options.ours_rows = (
        sorted({min(size, rows) for size in sizes}) for sizes in (options.rows, options.ours_rows)
    )
    options.embedded_rows = min(options.embedded_rows, rows)


def read_personas(path: Path) -> pl.LazyFrame:
    """The persona column of somebody's file."""
    scan = pl.scan_parquet if path.suffix == ".parquet" else pl.scan_ndjson
    return scan(path).select(pl.col("persona").cast(pl.String)).drop_nulls()


def find_truth(flag: str, source: Path, threshold: float) -> Pairs:
    """All similar pairs by brute force, in a virtual environment that has SciPy."""
    script = TRUTH.path.read_bytes()
    name = short_hash(script, source.read_bytes(), str(threshold).encode())
    path = CACHE / f"truth-{name}.npz"
    if not path.exists():
        tell(f"finding the true pairs of {source.name} from {threshold}")
        with tempfile.TemporaryDirectory(prefix="truth-") as folder:
            part = Path(folder) / "pairs.npz"
            arguments = [f"{flag}={source}", f"--threshold={threshold}", f"--out={part}"]
            run_script(TRUTH, arguments, Path(folder), TRUTH_LIMIT_S)
            path.write_bytes(part.read_bytes())
    return load_pairs(path)


def short_hash(*parts: bytes) -> str:
    """Enough to tell inputs apart."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest()


def find_available(engines: tuple[Engine, ...], names: list[str]) -> list[Engine]:
    """The chosen engines that can run here."""
    available = []
    for engine in engines:
        if engine.name not in names:
            continue
        try:
            find_interpreter(engine)
            available.append(engine)
        except UnavailableError as error:
            print(f"skipped {engine.name}: {error}")
    return available


def measure_texts(inputs: Inputs, options: argparse.Namespace) -> Iterator[Row]:
    """All engines at all sizes and thresholds, then ours at more sizes."""
    engines = find_available(TEXT, options.only)
    sizes = sorted({*options.rows, *options.ours_rows})
    for rows in sizes:
        for threshold in options.thresholds:
            task = inputs.text_task(rows, threshold, min(options.thresholds))
            chosen = [engine for engine in engines if engine.is_ours or rows in options.rows]
            yield from measure(chosen, task, options)


def measure_vectors(inputs: Inputs, options: argparse.Namespace) -> Iterator[Row]:
    """All engines of the second table."""
    engines = find_available(EMBEDDINGS, options.only)
    yield from measure(engines, inputs.vector_task(options.embedded_rows), options)


def measure(engines: list[Engine], task: Task, options: argparse.Namespace) -> Iterator[Row]:
    """The same question to each engine, one after the other."""
    if task.truth:
        removable = len(keep_first(task.truth, task.rows))
        tell(f"true at {task.threshold}: {len(task.truth):,} pairs, {removable:,} to remove")
        yield Row("truth", task.rows, task.threshold, "truth", removed=removable)
    for engine in engines:
        tell(f"{engine.name}: {task.rows:,} rows at {task.threshold}")
        yield run_engine(engine, task, options.limit, options.repeats)


def table(rows: list[Row]) -> Iterator[str]:
    """The rows as markdown, with what did not end well below."""
    ours = {(row.rows, row.threshold): row.cpu_s for row in rows if row.engine == "ours"}
    yield f"| {' | '.join(TITLES)} |"
    yield "| --- |" + " ---: |" * (len(TITLES) - 1)
    for row in rows:
        cells = [row.engine, f"{row.rows:,}", f"{row.threshold:g}"]
        cells += cost_cells(row, ours.get((row.rows, row.threshold), 0.0))
        yield f"| {' | '.join([*cells, *quality_cells(row)])} |"
    yield from (f"{row.engine}: {row.status}; {row.note}" for row in rows if row.note)


def cost_cells(row: Row, ours_cpu_s: float) -> list[str]:
    """From CPU-seconds to memory."""
    if row.status != "ok":
        return ["-"] * 5
    ratio = f"{row.cpu_s / ours_cpu_s:.2f}" if ours_cpu_s else "-"
    seconds = [f"{row.cpu_s:.2f}", ratio, f"{row.wall_s:.2f}", f"{row.process_cpu_s:.2f}"]
    return [*seconds, f"{row.rss_mb:.0f}"]


def quality_cells(row: Row) -> list[str]:
    """From recall to removals."""
    removed = "-" if row.removed is None else f"{row.removed:,}"
    verdict = row.verdict
    if verdict is None:
        return [*["-"] * 4, removed]
    rates = ["-" if rate is None else f"{rate:.4f}" for rate in (verdict.recall, verdict.precision)]
    return [*rates, f"{verdict.left:,}", f"{verdict.false_removals:,}", removed]


def growth_lines(rows: list[Row]) -> Iterator[str]:
    """How ours grows: the exponent x of rows^x that fits the sizes run."""
    ours = [row for row in rows if row.engine == "ours" and row.status == "ok"]
    for threshold in sorted({row.threshold for row in ours}, reverse=True):
        runs = [row for row in ours if row.threshold == threshold]
        if len(runs) > 1:
            seconds, memory = (
                np.polyfit(np.log([row.rows for row in runs]), np.log(values), 1)[0]
                for values in ([row.cpu_s for row in runs], [row.rss_mb for row in runs])
            )
            sizes = f"{runs[0].rows:,} to {runs[-1].rows:,} rows"
            yield (
                f"Ours at {threshold:g}, {sizes}: CPU-seconds ~ rows^{seconds:.2f}, "
                f"memory ~ rows^{memory:.2f}."
            )


def notes(
    origin: str, load: tuple[float, float, float], options: argparse.Namespace
) -> Iterator[str]:
    """What the numbers were measured on."""
    used = [*(TEXT if options.text else ()), *(EMBEDDINGS if options.embeddings else ())]
    chosen = [engine for engine in used if engine.name in options.only and not engine.is_ours]
    peers = sorted({requirements(engine)[0] for engine in chosen})
    version = importlib.metadata.version("persona-pipeline")
    yield f"Input: {origin}."
    yield f"Load average at the start: {', '.join(f'{value:.2f}' for value in load)}."
    yield f"{os.cpu_count()} cores, {THREADS} threads an engine."
    yield f"Engines: persona-pipeline {version}; {', '.join(peers) or 'no peers'}."


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", action="store_true", help="the first table only")
    parser.add_argument("--embeddings", action="store_true", help="the second table only")
    known = list(dict.fromkeys(engine.name for engine in (*TEXT, *EMBEDDINGS)))
    parser.add_argument("--only", type=names_among(known), default=known, help=",".join(known))
    parser.add_argument("--rows", type=read_numbers, default=[20_000, 200_000])
    parser.add_argument("--ours-rows", type=read_numbers, default=[], help="more sizes for ours")
    parser.add_argument("--embedded-rows", type=int, default=50_000, help="rows of table 2")
    parser.add_argument("--truth-rows", type=int, default=20_000, help="texts to judge, at most")
    parser.add_argument(
        "--thresholds",
        type=lambda text: [float(part) for part in text.split(",")],
        default=[0.9, 0.7, 0.5],
        help="Jaccard similarities of table 1",
    )
    parser.add_argument("--growth", action="store_true", help="fit CPU-seconds and memory of ours")
    parser.add_argument("--repeats", type=int, default=1, help="runs, of which the cheapest counts")
    parser.add_argument("--limit", type=float, default=900, help="seconds a run may take")
    parser.add_argument("--file", type=Path, help="Parquet or JSON lines with a persona column")
    parser.add_argument("--seed", type=int, default=1, help="of the made personas")
    parser.add_argument("--out", type=Path, help="also write the results here, as JSON")
    options = parser.parse_args()
    if not options.text and not options.embeddings:
        options.text = options.embeddings = True
    if not options.embeddings:
        options.embedded_rows = 0
    if not options.text:
        options.rows, options.ours_rows = [], []
    return options


def main() -> None:
    """Measure and print."""
    options = parse_options()
    load = os.getloadavg()
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    results: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="dedup-inputs-") as folder:
        inputs = Inputs(options, Path(folder))
        clip_sizes(options, inputs.rows)
        for is_wanted, run in (
            (options.text, measure_texts),
            (options.embeddings, measure_vectors),
        ):
            if is_wanted:
                rows = list(run(inputs, options))
                results += rows
                print("\n".join(table(rows)), end="\n\n")
                if options.growth:
                    print("\n".join(growth_lines(rows)), end="\n\n")
    print("\n".join(notes(inputs.origin, load, options)))
    if options.out:
        options.out.write_text(json.dumps([dataclasses.asdict(row) for row in results], indent=2))


if __name__ == "__main__":
    main()
