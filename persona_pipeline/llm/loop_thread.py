"""Run asyncio work from a thread that waits for it and can be interrupted meanwhile."""

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast

Argument = TypeVar("Argument")
Result = TypeVar("Result")

SIGNAL_POLL_SECONDS = 0.2
"""Seconds until a signal is noticed that the system delivered to another thread. A signal delivered
to this thread ends the wait at once."""


def run_in_loop_thread(
    work: Callable[[], Coroutine[Any, Any, None]],
    *,
    stop: Callable[[], None],
    grace: float,
    hold: Callable[[], None] = lambda: None,
) -> None:
    """Run `work` in a thread with its own event loop, and raise what it raises.

    What a signal raises here (Ctrl-C, Dagster's termination of a run) ends the work in order.
    `hold` is called at once in this thread, since the loop may be busy. `stop` is called in the
    loop as soon as the loop is free. The thread is abandoned `grace` seconds later. This also works
    in a notebook, whose thread already has a running loop.
    """
    thread = _LoopThread(work)
    thread.start()
    try:
        while not thread.over.wait(SIGNAL_POLL_SECONDS):
            pass
    except BaseException:
        hold()
        thread.call(stop)
        thread.over.wait(grace)
        raise
    if thread.error:
        raise thread.error


async def in_daemon_thread(function: Callable[[Argument], Result], argument: Argument) -> Result:
    """Run a slow function in a thread, as `asyncio.to_thread` does.

    An interrupted process does not wait for the thread.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: Exception | None) -> None:
        if outcome.done():
            return
        if error:
            outcome.set_exception(error)
        else:
            outcome.set_result(cast("Result", result))

    def work() -> None:
        result, error = None, None
        try:
            result = function(argument)
        except Exception as raised:  # noqa: BLE001 - raised again in the coroutine that waits
            error = raised
        with suppress(RuntimeError):  # the loop ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, daemon=True).start()
    return await outcome


class _LoopThread(threading.Thread):
    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        super().__init__(name="persona-pipeline-calls", daemon=True)
        self._work = work
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_loop = threading.Event()
        self.over = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        gc.freeze()  # else collections over LiteLLM's objects take a quarter of a call
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            self.error = error
        finally:
            gc.unfreeze()
            self._has_loop.set()
            self.over.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._has_loop.set()
        await self._work()

    def call(self, function: Callable[[], None]) -> None:
        """Call the function in the loop, unless the loop has ended."""
        self._has_loop.wait()
        if self._loop and not self.over.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)
