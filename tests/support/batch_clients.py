"""Open clients of the batch API on a test server, and ask them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from persona_pipeline.llm.batches.client import BatchChatClient, Batching
from persona_pipeline.llm.batches.collection import CollectedBatch, collect_finished
from persona_pipeline.llm.batches.records import BatchRecord, find_records
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.errors import CallError
from persona_pipeline.llm.requests import ChatReply, ChatRequest
from persona_pipeline.models import open_batch_api
from persona_pipeline.settings import Settings, load_settings
from tests.support.batch_server import BatchServer, Json
from tests.support.purchases import GOOD, MemoryStore, make_request

MODEL = "openai/served"


ONE = make_request(model=MODEL)


MANY = [make_request(f"Who reads page {number}?", model=MODEL) for number in range(7)]


SOON = 0.02


Outcomes = list[ChatReply | BaseException]


def open_client(  # noqa: PLR0913 - what a user can give
    server: BatchServer,
    folder: Path,
    *,
    size: int = 100,
    poll: float = SOON,
    api_key: str | None = None,
    model: str = MODEL,
    api_base: str | None = None,
) -> BatchChatClient:
    batching = Batching(folder / "batches", size, poll, lambda: "pages-00000", gathering=SOON)
    return BatchChatClient(model, batching, api_base=api_base or server.url, api_key=api_key)


def check_one_batch(
    server: BatchServer, asked: Sequence[ChatRequest], answers: Mapping[str, Answer]
) -> None:
    """Check that all requests were bought in one batch, each once, with its own answer."""
    personas = [json.loads(answers[one.call_key].response or "")["persona"] for one in asked]
    assert personas == [one.messages[0]["content"] for one in asked]
    assert len(server.batches) == 1
    assert set(server.billed) == {one.call_key for one in asked}
    assert server.billed_twice == 0


def ask(client: BatchChatClient, *requests: ChatRequest, attempt: int = 0) -> Outcomes:
    """Return the outcome of each request in one process."""

    async def all_of_them() -> Outcomes:
        calls = [client.complete(request, attempt=attempt) for request in requests]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        await client.close()
        return outcomes

    return asyncio.run(all_of_them())


def stop_while_waiting(client: BatchChatClient, folder: Path, *requests: ChatRequest) -> None:
    """Act as a process that ends once its batch is submitted."""

    async def wait_a_little() -> None:
        waiting = [asyncio.create_task(client.complete(request)) for request in requests]
        is_submitted = False
        while not is_submitted:  # the record names its batch
            done, _ = await asyncio.wait(waiting, timeout=SOON)
            assert not done
            is_submitted = any(record.batch_id for record in records(folder))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await client.close()

    asyncio.run(wait_a_little())


def records(folder: Path) -> list[BatchRecord]:
    return list(find_records(folder / "batches"))


def texts(outcomes: Outcomes) -> list[str]:
    return [reply.text for reply in outcomes if isinstance(reply, ChatReply)]


def the_error(outcomes: Outcomes) -> CallError:
    [error] = outcomes
    assert isinstance(error, CallError)
    return error


def in_database(requests: Sequence[ChatRequest]) -> MemoryStore:
    """Return a database that holds answers to these requests."""
    keys = [request.call_key for request in requests]
    return MemoryStore({key: Answer(key, MODEL, "ok", GOOD, None) for key in keys})


def count_prompt(body: Json, _before: int) -> str:
    return json.dumps({"persona": body["messages"][0]["content"]})


def batch_settings(server: BatchServer, folder: Path, **arguments: object) -> Settings:
    return load_settings(
        **{
            "data_dir": folder,
            "model": MODEL,
            "api_base": server.url,
            "batch": True,
            "batch_poll_seconds": SOON,
            **arguments,
        }
    )


def collect(settings: Settings) -> list[CollectedBatch]:
    """Collect the finished batches under these settings, as the sensor does."""
    return collect_finished(settings.batches_dir, partial(open_batch_api, settings))
