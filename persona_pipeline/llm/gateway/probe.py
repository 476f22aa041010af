"""Let few second tries go at once, until one shows that more room for thoughts is enough."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from persona_pipeline.llm.answers import is_all_thoughts
from persona_pipeline.llm.gateway.first_answers import MOST_WITHOUT_ROOM
from persona_pipeline.llm.requests import ChatReply


class Probe:
    """Hold back the second tries of rows whose thoughts left no room.

    Without it, all calls in flight are paid twice before the first rows stop the stage (of 80 rows,
    129 calls instead of 90). Twice as many tries as stop a stage open the way for all: then the
    stage has gone on, by a fallback model.
    """

    def __init__(self) -> None:
        """Begin with no answer."""
        self._permits = asyncio.Semaphore(MOST_WITHOUT_ROOM)
        self._ended = 0
        self._is_open = False

    def open(self) -> None:
        """Hold nothing back any more: a model has given a usable answer."""
        self._is_open = True

    @asynccontextmanager
    async def turn(self, last: ChatReply | None) -> AsyncGenerator[None]:
        """Wait until another try may go. `last`: the reply of the try before, if any."""
        if self._is_open or last is None or not is_all_thoughts(last):
            yield
            return
        async with self._permits:
            if not self._is_open:
                yield
                self._ended += 1
                self._is_open |= self._ended >= 2 * MOST_WITHOUT_ROOM
                return
        yield
