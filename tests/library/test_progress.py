"""How far a stage is, in words, and who is told."""

import logging
import time

import pytest

from persona_pipeline.progress import (
    LogReporter,
    StageProgress,
    describe,
    reporting_to,
    stage_progress,
)


class Watching:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, bool]] = []

    def update(self, progress: StageProgress, *, finished: bool) -> None:
        self.seen.append((progress.stage, progress.done, finished))


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (StageProgress("hub", 0), "hub: 0/0 done"),
        (StageProgress("math", 6, 3, 1, 1204), "math: 3/6 done, 1 failed, 1,204 tokens, 10 s left"),
        (StageProgress("math", 6, 6, 0, 9), "math: 6/6 done, 9 tokens"),
    ],
)
def test_progress_is_one_line(progress: StageProgress, text: str) -> None:
    progress.started = time.monotonic() - 10
    assert describe(progress) == text


def test_before_anything_is_done_no_time_is_foretold() -> None:
    assert StageProgress("hub", 5).seconds_left is None


def test_a_reporter_hears_of_the_start_each_step_and_the_end() -> None:
    watching = Watching()
    with reporting_to(watching), stage_progress("hub", 2) as tracker:
        tracker.step()
        tracker.reach(2)
    assert watching.seen == [
        ("hub", 0, False),
        ("hub", 1, False),
        ("hub", 2, False),
        ("hub", 2, True),
    ]


def fail_in_a_stage() -> None:
    with stage_progress("hub", 2):
        raise RuntimeError


def test_a_stage_that_fails_is_over_too() -> None:
    watching = Watching()
    with reporting_to(watching), pytest.raises(RuntimeError):
        fail_in_a_stage()
    assert watching.seen == [("hub", 0, False), ("hub", 0, True)]


def test_the_reporter_before_comes_back() -> None:
    outer, inner = Watching(), Watching()
    with reporting_to(outer):
        with reporting_to(inner), stage_progress("one", 1):
            pass
        with stage_progress("two", 1):
            pass
    assert {stage for stage, _, _ in inner.seen} == {"one"}
    assert {stage for stage, _, _ in outer.seen} == {"two"}


def test_without_a_reporter_the_log_gets_the_first_and_the_last_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.INFO, "persona_pipeline"),
        stage_progress("hub", 50) as tracker,
    ):
        for _ in range(50):
            tracker.step()
    assert caplog.messages == ["hub: 0/50 done", "hub: 50/50 done"]


def test_a_log_of_ones_own_can_be_given(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("mine")
    with caplog.at_level(logging.INFO, "mine"):
        LogReporter(log).update(StageProgress("hub", 1), finished=True)
    assert [record.name for record in caplog.records] == ["mine"]
