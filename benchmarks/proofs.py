"""What the call layer promises, proved against the mock provider: one line per promise.

    uv run python benchmarks/proofs.py                        # all: some 10 minutes
    uv run python benchmarks/proofs.py --only kills,budget
    uv run python benchmarks/proofs.py --mock path/to/another_mock.py

The mock's own bill is the judge. Exit status 1 when a promise is not kept.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider import Provider, running_provider

BUYING = Path(__file__).with_name("buying.py")
FAULT_SHARE = 0.05
IN_FLIGHT = 256
KILLS = 10
FLAT = 1.2
"""The most growth of memory from 10,000 rows to 100,000."""
CAP_USD = 0.10
USD_PER_TOKEN_IN, USD_PER_TOKEN_OUT = 0.15e-6, 0.60e-6


@dataclass(frozen=True, slots=True)
class Proof:
    """Hold one promise: whether it was kept, and the figures."""

    kept: bool
    figures: str


@dataclass(frozen=True, slots=True)
class Bench:
    """Hold the provider, and a folder for data."""

    provider: Provider
    folder: Path

    def command(self, name: str, rows: int, **options: object) -> list[str]:
        """Return the command line that buys so many rows into the folder `name`."""
        arguments = {"rows": rows, "concurrency": IN_FLIGHT, "url": self.provider.url, **options}
        pairs = [(f"--{key.replace('_', '-')}", str(value)) for key, value in arguments.items()]
        words = [word for pair in pairs for word in pair]
        return [sys.executable, str(BUYING), "--data-dir", str(self.folder / name), *words]

    def start(self, name: str, rows: int, **options: object) -> subprocess.Popen[str]:
        """Start to buy."""
        return subprocess.Popen(  # noqa: S603 - our own command
            self.command(name, rows, **options), stdout=subprocess.PIPE, text=True
        )

    def buy(self, name: str, rows: int, **options: object) -> dict[str, Any]:
        """Buy to the end, and return the report."""
        return report_of(self.start(name, rows, **options))


def report_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the last line that a buying process printed, parsed."""
    out, _ = process.communicate()
    if process.returncode:
        sys.exit(f"buying ended with status {process.returncode}")
    return dict(json.loads(out.strip().splitlines()[-1]))


def prove_faults(bench: Bench) -> Proof:
    """Prove that every row ends under 5 % each of seven faults, and only retries bill twice."""
    rows = 5000
    kinds = ("429", "500", "reset", "badcontent", "length", "empty", "refusal")
    bench.provider.configure(**{f"p_{kind}": FAULT_SHARE for kind in kinds})
    report = bench.buy("faults", rows)
    stats = bench.provider.stats()
    paid = stats["billed_total"] / rows
    unusable = 4 * FAULT_SHARE / (1 - 3 * FAULT_SHARE)
    ended = sum(report["outcomes"].values())
    kept = ended == rows and paid <= 1 + unusable + 0.02
    return Proof(
        kept,
        f"{ended} of {rows} rows ended {report['outcomes']}, paid/row {paid:.3f} "
        f"(1 + {unusable:.3f} unusable and re-asked once), same prompt billed again "
        f"{stats['billed_twice']}, {report['seconds']} s",
    )


def prove_kills(bench: Bench) -> Proof:
    """Prove that a run completes after ten kill -9 at random moments."""
    rows, rng, survived = 10_000, random.Random(11), 0  # noqa: S311 - not secret
    for _ in range(KILLS):
        goal = bench.provider.billed() + rng.randint(200, 1000)
        process = bench.start("kills", rows)
        while process.poll() is None and bench.provider.billed() < goal:
            time.sleep(0.02)
        survived += process.poll() is not None
        process.kill()
        process.communicate()
    report = bench.buy("kills", rows)
    again = bench.provider.billed() - rows
    kept = report["distinct"] == rows and report["stored"] == [["ok", rows]]
    kept &= again <= KILLS * IN_FLIGHT and not survived
    return Proof(
        kept,
        f"{KILLS} kills, {report['distinct']} distinct of {rows} rows stored, paid again {again} "
        f"(in flight at the kills: up to {KILLS * IN_FLIGHT})",
    )


def prove_memory(bench: Bench) -> Proof:
    """Prove that memory stays flat over 100,000 rows in one stage."""
    rows = 100_000
    bench.provider.configure(latency="fixed:50")
    report = bench.buy("memory", rows)
    early, late = report["rss_mb"]["10000"], report["rss_mb"][str(rows)]
    kept = late <= FLAT * early and report["distinct"] == rows
    return Proof(
        kept,
        f"RSS {early} MB at 10,000 rows, {late} MB at {rows} ({late / early - 1:+.0%}), "
        f"{report['rss_after_commit_mb']} MB after the commit, {report['cpu_s_per_1000']} CPU-s "
        f"per 1,000, {rows / report['seconds']:.0f} rows/s",
    )


def prove_budget(bench: Bench) -> Proof:
    """Prove by the provider's bill that a cap is never exceeded, and that a rerun buys the rest."""
    rows, bills, last = 3000, [], 0.0
    while True:
        report = bench.buy("budget", rows, max_usd=CAP_USD)
        stats = bench.provider.stats()
        total = stats["tokens_in"] * USD_PER_TOKEN_IN + stats["tokens_out"] * USD_PER_TOKEN_OUT
        bills.append(total - last)
        last = total
        if not report["stopped"]:
            break
    undisturbed = bench.buy("undisturbed", rows)
    kept = max(bills) <= CAP_USD and report["stored"] == undisturbed["stored"]
    shown = ", ".join(f"{bill:.4f}" for bill in bills)
    return Proof(kept, f"runs of at most {CAP_USD} USD billed {shown} USD; then {report['stored']}")


def prove_sharing(bench: Bench) -> Proof:
    """Prove that two processes on the same rows pay once."""
    rows = 5000
    both = [bench.start("sharing", rows) for _ in range(2)]
    reports = [report_of(process) for process in both]
    billed = bench.provider.billed()
    kept = all(report["rows"] == rows for report in reports) and billed == rows
    return Proof(kept, f"two processes, {rows} rows each, {billed} billed together")


PROOFS: dict[str, Callable[[Bench], Proof]] = {
    "faults": prove_faults,
    "kills": prove_kills,
    "memory": prove_memory,
    "budget": prove_budget,
    "sharing": prove_sharing,
}


def main() -> None:
    """Run the chosen proofs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PROOFS), help="comma-separated")
    parser.add_argument("--mock", type=Path, help="another mock with the same command line")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="proofs-"))
    broken = False
    try:
        for name in options.only.split(","):
            with running_provider(None, options.mock, 200) as provider:
                proof = PROOFS[name](Bench(provider, folder))
            broken |= not proof.kept
            print(f"{'kept  ' if proof.kept else 'BROKEN'} {name}: {proof.figures}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(broken)


if __name__ == "__main__":
    main()
