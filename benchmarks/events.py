"""Table 2: what each contender pays and finishes when something happens.

Every case gets a fresh work folder and a calm provider and returns rows finished and calls paid.
A row is finished when the dataset that the contender ended with holds a usable answer to this very
prompt; an answer that an earlier run already gave to another prompt is not one.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contenders import Contender, Outcome, Run, Task, run_contender
from prompts import write_prompts
from provider import Provider

OUTAGE_SECONDS = 12.0
SETTLE_SECONDS = 1.0
FIRST_TASK = "Write one question that this person would ask at work: {persona}"
SECOND_TASK = "Write one problem that this person could solve: {persona}"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a case plays: the contender, the provider, the sizes and the time limit."""

    contender: Contender
    provider: Provider
    work: Path
    rows: int
    concurrency: int
    limit_s: float

    def task(self, rows: int, topic: str = "harbour", second_prompt: str | None = None) -> Task:
        """A run of this contender over `rows` prompts about `topic`."""
        prompts = write_prompts(self.work / f"{topic}.jsonl", rows, topic)
        folder = self.work / "contender"
        url = self.provider.url
        return Task(rows, self.concurrency, url, folder, prompts, second_prompt)

    def run(self, task: Task) -> Outcome:
        """Run to the end or to the limit."""
        return run_contender(self.contender, task, self.limit_s)


@dataclass(frozen=True, slots=True)
class Result:
    """One cell of the table."""

    contender: str
    case: str
    status: str
    rows: int
    rows_finished: int
    calls_paid: int
    seconds: float
    note: str = ""


def append_one_row(stage: Stage) -> Result:
    """Run all rows, then one more: the second run."""
    first = stage.run(stage.task(stage.rows))
    if first.status != "ok":
        return unprepared(stage, first)
    stage.provider.reset()
    task = stage.task(stage.rows + 1)
    return result(stage, task, stage.run(task), set())


def replace_the_inputs(stage: Stage) -> Result:
    """Run all rows, then as many other prompts under the same ids: the second run."""
    before = stage.task(stage.rows)
    first = stage.run(before)
    if first.status != "ok":
        return unprepared(stage, first)
    old = answers(before)
    stage.provider.reset()
    task = stage.task(stage.rows, topic="orchard")
    return result(stage, task, stage.run(task), set(old.values()))


def edit_the_second_prompt(stage: Stage) -> Result:
    """Run a job of two calls a row, then again with another second prompt: the second run."""
    before = stage.task(stage.rows, second_prompt=FIRST_TASK)
    first = stage.run(before)
    if first.status != "ok":
        return unprepared(stage, first)
    old = answers(before)
    stage.provider.reset()
    task = stage.task(stage.rows, second_prompt=SECOND_TASK)
    return result(stage, task, stage.run(task), set(old.values()))


def kill_in_the_middle(stage: Stage) -> Result:
    """Kill -9 once half the rows are paid, then run again: both runs together."""
    task = stage.task(stage.rows)
    run = Run(stage.contender, task)
    reached = wait_for_billed(stage, run, stage.rows // 2)
    if not reached:
        return unprepared(stage, run.wait(0.0))
    run.kill()
    time.sleep(SETTLE_SECONDS)
    return result(stage, task, stage.run(task), set())


def sustained_429s(stage: Stage) -> Result:
    """30 % of the requests are refused with a Retry-After of one second."""
    return with_faults(stage, p_429=0.3)


def an_outage(stage: Stage) -> Result:
    """Once a quarter of the rows is paid, every request gets a 500 for 12 seconds."""
    task = stage.task(stage.rows)
    run = Run(stage.contender, task)
    wait_for_billed(stage, run, stage.rows // 4)
    stage.provider.configure(p_500=1.0)
    ends_at = time.monotonic() + OUTAGE_SECONDS
    while run.is_running() and time.monotonic() < ends_at:
        time.sleep(0.05)
    stage.provider.configure(p_500=0.0)
    return result(stage, task, run.wait(stage.limit_s), set())


def a_cap_of_40(stage: Stage) -> Result:
    """The provider refuses what exceeds 40 concurrent requests."""
    return with_faults(stage, max_concurrency=40)


def mixed_faults(stage: Stage) -> Result:
    """A fifth of the requests fails in one of five ways."""
    return with_faults(stage, p_429=0.05, p_500=0.04, p_reset=0.04, p_badcontent=0.04, p_empty=0.03)


CASES: dict[str, Callable[[Stage], Result]] = {
    "append": append_one_row,
    "replace": replace_the_inputs,
    "second-prompt": edit_the_second_prompt,
    "kill": kill_in_the_middle,
    "429": sustained_429s,
    "outage": an_outage,
    "cap": a_cap_of_40,
    "mixed": mixed_faults,
}


def play(  # noqa: PLR0913 - one for each option of the command line
    case: str,
    contender: Contender,
    provider: Provider,
    *,
    rows: int,
    concurrency: int,
    latency_ms: int,
    limit_s: float,
) -> Result:
    """Play one case for one contender."""
    provider.calm(latency_ms)
    with tempfile.TemporaryDirectory(prefix="calls-", ignore_cleanup_errors=True) as folder:
        return CASES[case](Stage(contender, provider, Path(folder), rows, concurrency, limit_s))


def with_faults(stage: Stage, **options: float) -> Result:
    """One run under these faults."""
    stage.provider.configure(**options)
    task = stage.task(stage.rows)
    return result(stage, task, stage.run(task), set())


def wait_for_billed(stage: Stage, run: Run, count: int) -> bool:
    """Wait until `count` calls are paid; False when the run ends or the limit passes first."""
    deadline = run.started_at + stage.limit_s
    while run.is_running() and time.monotonic() < deadline:
        if stage.provider.billed() >= count:
            return True
        time.sleep(0.02)
    return False


def result(stage: Stage, task: Task, outcome: Outcome, old_answers: set[str]) -> Result:
    """The cell for a run that has ended one way or another."""
    wanted = set(read_prompts(task.prompts))
    finished = [
        prompt
        for prompt, answer in answers(task).items()
        if prompt in wanted and answer not in old_answers and is_usable(answer)
    ]
    return Result(
        contender=stage.contender.name,
        case="",
        status=outcome.status,
        rows=task.rows,
        rows_finished=len(finished),
        calls_paid=stage.provider.billed(),
        seconds=round(outcome.seconds, 1),
        note=outcome.last_words,
    )


def unprepared(stage: Stage, outcome: Outcome) -> Result:
    """The cell for a case whose first, undisturbed run did not succeed."""
    note = f"the first run {outcome.status}: {outcome.last_words}"
    name, paid = stage.contender.name, stage.provider.billed()
    return Result(name, "", "unprepared", stage.rows, 0, paid, round(outcome.seconds, 1), note)


def answers(task: Task) -> dict[str, str]:
    """The dataset that the contender ended with, by prompt."""
    path = task.work / "answers.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    return {record["prompt"]: record["answer"] or "" for record in records}


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file that `write_prompts` made."""
    return [json.loads(line)["prompt"] for line in path.read_text().splitlines()]


def is_usable(answer: str) -> bool:
    """Whether there is an answer that is not cut off: a persona as JSON, or plain text."""
    if not answer.startswith("{"):
        return bool(answer.strip())
    try:
        return bool(json.loads(answer)["persona"].strip())
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
