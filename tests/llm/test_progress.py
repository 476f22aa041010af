"""Test the progress of a stage: its text, and when a reporter is updated."""

import logging
import time
from types import SimpleNamespace

import pytest

from persona_pipeline.llm import progress
from persona_pipeline.llm.progress import (
    SHOW_EVERY,
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
    ("stage", "text"),
    [
        (StageProgress("hub", 0), "hub: 0/0 done"),
        (
            StageProgress("math", 6, 3, 1, 1204),
            "math: 3/6 done, 1 failed, 1,204 tokens, 1 in 3.3 s, 10 s left",
        ),
        (StageProgress("math", 6, 6, 0, 9), "math: 6/6 done, 9 tokens"),
        (
            StageProgress("math", 400, 100, cost_usd=0.5, in_flight=7, refused_share=0.25),
            "math: 100/400 done, 0.5000 of about 2.0000 USD, 7 in flight, "  # noqa: ISC004
            "25% refused for pace, 10.0/s, 30 s left",
        ),
        (StageProgress("math", 6, 6, 0, 9, 0.25), "math: 6/6 done, 9 tokens, 0.2500 USD"),
        (StageProgress("math", 6, 0, 0, 9, 0.25), "math: 0/6 done, 9 tokens, 0.2500 USD"),
        (StageProgress("math", 6, 6, 0, 9, None), "math: 6/6 done, 9 tokens"),
        (StageProgress("math", 100, 2), "math: 2/100 done, 1 in 5.0 s, 8 min left"),
    ],
)
def test_progress_is_one_line(stage: StageProgress, text: str) -> None:
    stage.started = time.monotonic() - 10
    assert describe(stage) == text


def test_before_the_first_step_no_time_is_estimated() -> None:
    assert StageProgress("hub", 5).seconds_left is None


def test_a_reporter_hears_of_the_start_of_steps_now_and_then_and_of_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watching, now = Watching(), [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with reporting_to(watching), stage_progress("hub", 2) as tracker:
        now[0] += SHOW_EVERY
        tracker.step()
        tracker.step(failed=True)
        now[0] += SHOW_EVERY
        tracker.reach(2)
        tracker.load(3, 0.5)
    assert watching.seen == [
        ("hub", 0, False),
        ("hub", 1, False),
        ("hub", 2, False),
        ("hub", 2, True),
    ]
    assert (tracker.progress.failed, tracker.progress.in_flight) == (1, 0)


def test_a_reporter_hears_at_once_of_more_to_do() -> None:
    watching = Watching()
    with reporting_to(watching), stage_progress("hub", 0) as tracker:
        tracker.expect(5)
        assert len(watching.seen) == 2
        assert tracker.progress.total == 5


def test_at_a_thousand_steps_a_second_a_reporter_is_updated_ten_times_a_second() -> None:
    watching = Watching()
    with reporting_to(watching), stage_progress("hub", 5000) as tracker:
        started = time.monotonic()
        for _ in range(5000):
            tracker.step()
        seconds = time.monotonic() - started
    assert len(watching.seen) <= 3 + seconds / SHOW_EVERY
    assert watching.seen[-1] == ("hub", 5000, True)


def test_the_cost_is_unknown_once_a_price_is() -> None:
    with stage_progress("hub", 3) as tracker:
        tracker.spend(10, 0.5)
        tracker.spend(5, 0.25)
        assert (tracker.progress.tokens, tracker.progress.cost_usd) == (15, 0.75)
        tracker.spend(5, None)
        tracker.spend(5, 0.25)
        assert (tracker.progress.tokens, tracker.progress.cost_usd) == (25, None)


def fail_in_a_stage() -> None:
    with stage_progress("hub", 2):
        raise RuntimeError


def test_a_stage_that_fails_is_over_too() -> None:
    watching = Watching()
    with reporting_to(watching), pytest.raises(RuntimeError):
        fail_in_a_stage()
    assert watching.seen == [("hub", 0, False), ("hub", 0, True)]


def test_the_former_reporter_is_restored() -> None:
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


def test_a_stage_can_log_to_another_logger(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("mine")
    with caplog.at_level(logging.INFO, "mine"):
        LogReporter(log).update(StageProgress("hub", 1), finished=True)
    assert [record.name for record in caplog.records] == ["mine"]
