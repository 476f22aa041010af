"""Buy N generated rows as a stage of a run does, and report the result as one JSON line.

`benchmarks/proofs.py` starts this script, kills it, and starts it again.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from adapter import API_KEY, MODEL, SCHEMA, messages
from prompts import prompt

from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.gateway.budget import BudgetExceeded
from persona_pipeline.llm.requests import ChatRequest, Sampling
from persona_pipeline.models import open_gateway
from persona_pipeline.settings import load_settings
from persona_pipeline.store.store import Store

PRICE = {"input": 0.15, "output": 0.60}
"""USD per million tokens, as the mock counts too."""


class Ledger:
    """Count answers as they arrive, and the memory at certain counts."""

    def __init__(self, rows: int) -> None:
        """Expect this many rows."""
        self.rows = rows
        self.outcomes: Counter[str] = Counter()
        self.rss_mb: dict[int, int] = {}

    def receive(self, _key: str, answer: Answer) -> None:
        """Count one answer."""
        self.outcomes[answer.status] += 1
        done = self.outcomes.total()
        if done % 10_000 == 0 or done == self.rows:
            self.rss_mb[done] = rss_mb()


def rss_mb() -> int:
    """Return the resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def requests(rows: int, topic: str) -> Iterator[ChatRequest]:
    """Yield the rows, created as they are read."""
    for number in range(rows):
        yield ChatRequest(
            model=f"openai/{MODEL}",
            messages=tuple(messages(prompt(number, topic))),
            schema=SCHEMA,
            sampling=Sampling(0.7, 1.0, 200),
            stage="rows",
        )


def main() -> None:
    """Buy, commit, report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--url", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--topic", default="windmill")
    parser.add_argument("--max-usd", type=float)
    options = parser.parse_args()
    settings = load_settings(
        model=f"openai/{MODEL}",
        api_base=options.url,
        api_key=API_KEY,
        max_concurrency=options.concurrency,
        data_dir=options.data_dir,
        max_usd=options.max_usd,
        prices={f"openai/{MODEL}": PRICE},
    )
    store = Store(settings.database, settings.snapshot)
    store.migrate()
    ledger = Ledger(options.rows)
    stopped = ""
    with open_gateway(settings, store) as gateway:
        started, cpu = time.monotonic(), cpu_seconds()
        try:
            gateway.buy(
                requests(options.rows, options.topic), ledger.receive, shard="proof", stage="rows"
            )
        except BudgetExceeded as reached:
            stopped = str(reached)
        seconds, cpu = time.monotonic() - started, cpu_seconds() - cpu
        store.replace([], gateway.journal.to_commit(), run_id="proof")
        gateway.journal.committed()
        spent = gateway.budget.spent.usd
    report = {
        "rows": ledger.outcomes.total(),
        "outcomes": dict(ledger.outcomes),
        "seconds": round(seconds, 1),
        "cpu_s_per_1000": round(cpu / max(1, ledger.outcomes.total()) * 1000, 3),
        "rss_mb": ledger.rss_mb,
        "rss_after_commit_mb": rss_mb(),
        "stopped": stopped,
        "spent_usd": round(spent, 6),
        "stored": store.query(
            "select status, count(*) from llm.calls group by 1 order by 1"
        ).rows(),
        "distinct": store.query("select count(distinct call_key) from llm.calls").item(),
    }
    print(json.dumps(report), flush=True)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
