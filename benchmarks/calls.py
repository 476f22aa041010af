"""Runs our call layer and its peers against a mock provider and prints two tables.

    uv run python benchmarks/calls.py                              # everything, about an hour
    uv run python benchmarks/calls.py --only ours,aiohttp --cases none
    uv run python benchmarks/calls.py --only ours,curator --concurrency none --cases kill,append

Table 1 is speed: CPU-seconds of the client's process tree, calls a second and memory. Table 2 is
what each contender pays and finishes when something happens. Peers live in virtual environments
under `benchmarks/.venvs`, made on first use; one that cannot be installed is skipped with a reason.
"""

import argparse
import dataclasses
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from contenders import (
    CONTENDERS,
    Contender,
    Task,
    UnavailableError,
    find_interpreter,
    requirements,
    run_contender,
)
from events import CASES, Result, play
from prompts import write_prompts
from provider import running_provider

EVENT_CONCURRENCY = 64
NONE = "none"
SPEED_TITLES = (
    "contender",
    "concurrency",
    "CPU-s / 1,000 calls",
    "calls/s",
    "of ideal",
    "RSS MB",
    "paid / row",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """Hold one row of table 1."""

    contender: str
    concurrency: int
    status: str
    cpu_s_per_1000: float = 0.0
    calls_per_s: float = 0.0
    ideal_ratio: float = 0.0
    rss_mb: float = 0.0
    paid_per_row: float = 0.0
    rows_done: int = 0
    note: str = ""


def measure_speed(contender: Contender, concurrency: int, options: argparse.Namespace) -> Speed:
    """Run one contender over fresh rows with a fresh cache."""
    with (
        tempfile.TemporaryDirectory(prefix="calls-", ignore_cleanup_errors=True) as folder,
        running_provider(options.url, options.mock, options.latency) as provider,
    ):
        prompts = write_prompts(Path(folder) / "prompts.jsonl", options.rows, "harbour")
        work = Path(folder) / "contender"
        task = Task(options.rows, concurrency, provider.url, work, prompts)
        outcome = run_contender(contender, task, options.limit)
        paid = provider.billed()
    if outcome.status != "ok":
        return Speed(contender.name, concurrency, outcome.status, note=outcome.last_words)
    report = outcome.report
    ideal_s = options.rows / (concurrency / (options.latency / 1e3))
    return Speed(
        contender=contender.name,
        concurrency=concurrency,
        status="ok",
        cpu_s_per_1000=report["cpu_s"] / options.rows * 1000,
        calls_per_s=options.rows / report["wall_s"],
        ideal_ratio=ideal_s / report["wall_s"],
        rss_mb=report["rss_mb"],
        paid_per_row=paid / options.rows,
        rows_done=report["rows_done"],
    )


def play_case(case: str, contender: Contender, options: argparse.Namespace) -> Result:
    """Play one event with a provider of its own."""
    with running_provider(options.url, options.mock, options.latency) as provider:
        cell = play(
            case,
            contender,
            provider,
            rows=options.event_rows,
            concurrency=EVENT_CONCURRENCY,
            latency_ms=options.latency,
            limit_s=options.limit,
        )
    return dataclasses.replace(cell, case=case)


def find_available(names: list[str]) -> tuple[list[Contender], dict[str, str]]:
    """Return the chosen contenders that can run here, and why the others cannot."""
    available, skipped = [], {}
    for contender in CONTENDERS:
        if contender.name not in names:
            continue
        try:
            find_interpreter(contender)
            available.append(contender)
        except UnavailableError as error:
            skipped[contender.name] = str(error)
            print(f"skipped {contender.name}: {error}")
    return available, skipped


def speed_table(rows: list[Speed]) -> Iterator[str]:
    """Yield table 1 as markdown."""
    yield f"| {' | '.join(SPEED_TITLES)} |"
    yield "| --- |" + " ---: |" * (len(SPEED_TITLES) - 1)
    for row in rows:
        head = f"| {row.contender} | {row.concurrency} |"
        if row.status != "ok":
            yield f"{head} {row.status} | - | - | - | - |"
            continue
        yield (
            f"{head} {row.cpu_s_per_1000:.2f} | {row.calls_per_s:.0f} | {row.ideal_ratio:.0%} "
            f"| {row.rss_mb:.0f} | {row.paid_per_row:.3f} |"
        )


def event_table(cells: list[Result], names: list[str], cases: list[str]) -> Iterator[str]:
    """Yield table 2 as markdown: rows finished / calls paid, and the seconds of the last run."""
    by_place = {(cell.case, cell.contender): cell for cell in cells}
    notes: list[str] = []
    yield "| case | " + " | ".join(names) + " |"
    yield "| --- |" + " ---: |" * len(names)
    for case in cases:
        texts = [event_text(by_place[case, name], notes) for name in names]
        yield f"| {case} | " + " | ".join(texts) + " |"
    yield ""
    yield "Each cell: rows finished / calls paid (seconds). Cases:"
    yield from (f"- {case}: {CASES[case].__doc__}" for case in cases)
    yield from (f"[{n}] {note}" for n, note in enumerate(notes, 1))


def event_text(cell: Result, notes: list[str]) -> str:
    """Return one cell. What did not end well gets a footnote."""
    if cell.status == "ok":
        return f"{cell.rows_finished} / {cell.calls_paid} ({cell.seconds:.0f} s)"
    notes.append(f"{cell.contender}, {cell.case}: {cell.status}; {cell.note}")
    if cell.status == "unprepared":
        return f"- [{len(notes)}]"
    return f"{cell.status}, {cell.rows_finished} / {cell.calls_paid} [{len(notes)}]"


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--mock", type=Path, help="a mock with mock_server.py's command line")
    source.add_argument("--url", help="a mock that already runs, http://HOST:PORT/v1")
    known = [contender.name for contender in CONTENDERS]
    parser.add_argument("--only", type=names_among(known), default=known, help=",".join(known))
    parser.add_argument(
        "--cases", type=names_among(list(CASES)), default=list(CASES), help=f"{NONE} or names"
    )
    parser.add_argument(
        "--concurrency", type=read_numbers, default=[64, 256], help=f"{NONE} or numbers"
    )
    parser.add_argument("--rows", type=int, default=2000, help="rows of table 1")
    parser.add_argument("--event-rows", type=int, default=400, help="rows of table 2")
    parser.add_argument("--latency", type=int, default=200, help="milliseconds a call takes")
    parser.add_argument("--limit", type=float, default=180, help="seconds a run may take")
    parser.add_argument("--out", type=Path, help="also write the results here, as JSON")
    return parser.parse_args()


def names_among(known: list[str]) -> Callable[[str], list[str]]:
    """Return a parser of comma-separated names that lists the choices when one is unknown."""

    def read_names(text: str) -> list[str]:
        names = [] if text == NONE else text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            message = f"unknown {unknown}; known: {known} or '{NONE}'"
            raise argparse.ArgumentTypeError(message)
        return names

    return read_names


def read_numbers(text: str) -> list[int]:
    """Parse comma-separated numbers, or none."""
    return [] if text == NONE else [int(part) for part in text.split(",")]


def write_json(
    options: argparse.Namespace,
    speeds: list[Speed],
    cells: list[Result],
    skipped: dict[str, str],
) -> None:
    """Write everything measured, and the machine it was measured on."""
    peers = {
        c.name: requirements(c) for c in CONTENDERS if c.name in options.only and not c.is_ours
    }
    value = {
        "options": {name: str(option) for name, option in vars(options).items()},
        "python": platform.python_version(),
        "machine": platform.platform(),
        "requirements": peers,
        "skipped": skipped,
        "speed": [dataclasses.asdict(row) for row in speeds],
        "events": [dataclasses.asdict(cell) for cell in cells],
    }
    options.out.write_text(json.dumps(value, indent=2) + "\n")


def tell(text: str) -> None:
    """Print progress to stderr. The tables go to stdout."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    options = parse_options()
    contenders, skipped = find_available(options.only)
    speeds: list[Speed] = []
    for concurrency in options.concurrency:
        for contender in contenders:
            tell(f"speed: {contender.name} at {concurrency}")
            speeds.append(measure_speed(contender, concurrency, options))
    cells: list[Result] = []
    drivable = [contender for contender in contenders if contender.has_memory]
    for case in options.cases:
        for contender in drivable:
            tell(f"event: {case}, {contender.name}")
            cells.append(play_case(case, contender, options))
    if speeds:
        print("\n".join(speed_table(speeds)), end="\n\n")
    if cells:
        names = [contender.name for contender in drivable]
        print("\n".join(event_table(cells, names, options.cases)))
    if options.out:
        write_json(options, speeds, cells, skipped)


if __name__ == "__main__":
    main()
