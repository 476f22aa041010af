"""Test asyncio work in its own thread: its result, its errors, and its end after an interrupt."""

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from persona_pipeline.llm.loop_thread import run_in_loop_thread

ROOT = Path(__file__).parents[2]


def never() -> None:
    pytest.fail("nothing was to be stopped")


def test_the_work_is_done_when_it_returns() -> None:
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.append(threading.current_thread().name)

    run_in_loop_thread(work, stop=never, grace=1)
    assert done == ["persona-pipeline-calls"]


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(3), KeyboardInterrupt()])
def test_what_the_work_raises_is_raised_here(error: BaseException) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)) as caught:
        run_in_loop_thread(work, stop=never, grace=1)
    assert caught.value is error


def test_it_works_where_a_loop_is_running_as_in_a_notebook() -> None:
    done: list[bool] = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(True)

    async def cell() -> None:
        run_in_loop_thread(work, stop=never, grace=1)

    asyncio.run(cell())
    assert done == [True]


def test_it_works_in_a_thread_that_gets_no_signals() -> None:
    done: list[bool] = []

    async def work() -> None:
        done.append(True)

    thread = threading.Thread(target=lambda: run_in_loop_thread(work, stop=never, grace=1))
    thread.start()
    thread.join()
    assert done == [True]


def test_nothing_of_the_thread_is_left() -> None:
    async def work() -> None:
        asyncio.get_running_loop().call_later(60, never)

    before = threading.active_count()
    run_in_loop_thread(work, stop=never, grace=1)
    deadline = time.monotonic() + 60
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.001)


PROGRAM = """
import asyncio, os, signal, sys, threading
from persona_pipeline.llm.loop_thread import run_in_loop_thread

HOWS = {
    "process": lambda: os.kill(os.getpid(), signal.SIGINT),
    "thread": lambda: signal.raise_signal(signal.SIGINT),
}

seconds_to_end, grace = float(sys.argv[1]), float(sys.argv[2])
stopping = []

async def work():
    stopping.append(asyncio.Event())
    threading.Timer(0.1, HOWS[sys.argv[3]]).start()
    await stopping[0].wait()
    print("stopping", flush=True)
    await asyncio.sleep(seconds_to_end)
    print("in order", flush=True)

try:
    run_in_loop_thread(work, stop=lambda: stopping[0].set(), grace=grace)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def interrupted(seconds_to_end: float, grace: float, how: str) -> tuple[list[str], float]:
    """Return what the program printed, and how many seconds it took."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seconds_to_end), str(grace), how],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1], time.monotonic() - started


@pytest.mark.parametrize("how", ["process", "thread"])
def test_an_interrupt_ends_the_work_in_order_and_is_raised_whichever_thread_gets_it(
    how: str,
) -> None:
    printed, seconds = interrupted(0.1, 600, how)
    assert printed == ["stopping", "in order", "interrupted"]
    assert seconds < 300


def test_work_that_does_not_end_is_abandoned_after_the_grace() -> None:
    printed, seconds = interrupted(600, 0.2, "process")
    assert printed == ["stopping", "interrupted"]
    assert seconds < 300
