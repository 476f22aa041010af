"""A provider's batch API, by LiteLLM's file and batch calls: answers within a day, for less."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from persona_pipeline.llm.batches.records import BatchRecord, Submission, address_of, is_answer
from persona_pipeline.llm.clients.direct import find_endpoint
from persona_pipeline.llm.clients.litellm_client import import_litellm, translate
from persona_pipeline.llm.clients.served import read_reply, refused, shown
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.requests import ChatReply

PROVIDERS = ("openai", "hosted_vllm")
"""Those whose batches LiteLLM creates, finds again and collects as OpenAI does. Not azure, mistral,
vertex_ai, bedrock, xai: their batch files are in forms of their own, or cannot be listed."""
ENDPOINT = "/v1/chat/completions"
WINDOW = "24h"
TRANSFER_SECONDS = 600.0
"""For a file of 100 MB."""
OVER = {"completed", "expired", "cancelled", "failed"}
QUOTA = ("token_limit_exceeded", "Enqueued token limit")
"""Said of a batch that fails because too much is waiting already: another time it may pass."""
QUOTA_SECONDS = 60.0
PAGE = 100
CLOCKS_APART = 3600.0
"""Seconds that our clock may be ahead of the provider's."""
CLOSE = {"Connection": "close"}
"""LiteLLM opens a client for each of these calls and never closes it."""
LAST_SECONDS = 0.1
"""For a call under way when we are stopped: see `_settled`."""
NO_LOGGING = {"batch_ignore_default_logging": True}
"""Or LiteLLM downloads the answers of a finished batch once more, to add up its cost."""


class NeverSubmitted(Exception):  # noqa: N818 - not an error: nothing was bought
    """The provider has no batch of this submission."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """What the provider says of a batch."""

    status: str
    files: tuple[str, ...]
    done: int
    problem: str

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in OVER


class BatchApi:
    """One model's batches at one server; every error is one of our kinds."""

    def __init__(
        self, model: str, *, api_base: str | None = None, api_key: str | None = None
    ) -> None:
        """As for a chat client.

        Raises:
            CallError: the server has no batches that we can use, or its key is missing.
        """
        litellm = import_litellm()
        try:
            endpoint = find_endpoint(model, api_base, api_key)
        except litellm.exceptions.openai.OpenAIError as error:
            raise translate(error, api_key) from None
        if endpoint is None or endpoint.provider not in PROVIDERS:
            raise CallError(CallErrorKind.FATAL, _unsupported(model))
        self.model, self.address = model, address_of(endpoint.address)
        self._key = endpoint.key
        self._server = {
            "custom_llm_provider": "openai",  # the others' own addresses would not be used
            "api_base": endpoint.address,
            "api_key": endpoint.key,
            "timeout": TRANSFER_SECONDS,
            "max_retries": 0,
            "extra_headers": CLOSE,
            "litellm_metadata": NO_LOGGING,
        }

    async def upload(self, name: str, lines: bytes) -> str:
        """Send a batch's requests, without buying anything; the file's id."""
        file = (f"{name}.jsonl", lines, "application/jsonl")
        sent = await self._call(import_litellm().acreate_file, file=file, purpose="batch")
        return str(sent.id)

    async def create(self, file_id: str, submission: Submission) -> str:
        """Buy the answers to an uploaded file; the batch's id."""
        batch = await self._call(
            import_litellm().acreate_batch,
            completion_window=WINDOW,
            endpoint=ENDPOINT,
            input_file_id=file_id,
            metadata={"submission": submission.submission},
        )
        return str(batch.id)

    async def find(self, submission: Submission) -> str | None:
        """The batch that came of a submission, if the provider took it."""
        after = None
        while True:
            page = await self._call(import_litellm().alist_batches, limit=PAGE, after=after)
            await page._client.close()  # noqa: SLF001 - this call takes no headers: see CLOSE
            for batch in page.data:
                if (batch.metadata or {}).get("submission") == submission.submission:
                    return str(batch.id)
            oldest = min((batch.created_at for batch in page.data), default=0)
            if not page.has_more or oldest < submission.created_at - CLOCKS_APART:
                return None
            after = page.data[-1].id

    async def retrieve(self, batch_id: str) -> BatchState:
        """How far a batch is."""
        batch = await self._call(import_litellm().aretrieve_batch, batch_id=batch_id)
        files = (batch.output_file_id, batch.error_file_id)
        counts = batch.request_counts
        problems = [f"{problem.message} ({problem.code})" for problem in _errors(batch)]
        return BatchState(
            status=batch.status,
            files=tuple(file for file in files if file),
            done=counts.completed + counts.failed if counts else 0,
            problem=shown("; ".join(problems) or "no reason given", self._key),
        )

    async def download(self, files: tuple[str, ...]) -> bytes:
        """The answers and errors of a batch that is over, a line each."""
        contents = [
            (await self._call(import_litellm().afile_content, file_id=file)).content
            for file in files
        ]
        return b"".join(content.rstrip(b"\n") + b"\n" for content in contents)

    def read_line(self, line: dict[str, Any]) -> ChatReply:
        """The reply on a line of the results.

        Raises:
            CallError: there is none.
        """
        response = line.get("response") or {}
        status = response.get("status_code")
        if is_answer(line):
            return read_reply(response.get("body"))
        if not status:
            problem = (line.get("error") or {}).get("message") or "the batch ended without it"
            raise CallError(CallErrorKind.TRANSIENT, shown(str(problem), self._key))
        error = refused(status, {}, json.dumps(response.get("body")), self._key)
        if error.kind is CallErrorKind.RATE:  # of another's pace: asked again, but not for ever
            error.kind = CallErrorKind.TRANSIENT
        raise error

    async def _call(self, function: Callable[..., Awaitable[Any]], **asked: object) -> Any:  # noqa: ANN401 - LiteLLM's types are partial
        try:
            return await _settled(function(**asked, **self._server))
        except import_litellm().exceptions.openai.OpenAIError as error:
            raise translate(error, self._key) from None  # its text may hold the key


async def advance(record: BatchRecord, api: BatchApi) -> BatchState | None:
    """Bring a held record one step further: to its batch's name, to its results.

    Raises:
        NeverSubmitted: the record was dropped, nothing was bought.
        CallError: rate or transient where it may go on later.
    """
    submission = record.submission
    if record.is_finished:
        return None
    if record.batch_id is None:
        batch_id = await api.find(submission)
        if batch_id is None:
            record.drop()
            raise NeverSubmitted
        record.note_batch(batch_id)
    state = await api.retrieve(str(record.batch_id))
    if state.status == "failed":
        record.drop()
        raise _failed(record, state)
    if state.is_over:
        record.save_results(await api.download(state.files))
    return state


def check_batches(model: str) -> None:
    """Refuse a model whose provider has no batches that we can use.

    Raises:
        ModelError: says which have.
    """
    provider, slash, _ = model.partition("/")
    if slash and provider not in PROVIDERS:
        raise ModelError(_unsupported(model))


def new_submission(model: str, address: str, shard: str, requests: dict[str, str]) -> Submission:
    """A submission of these requests, with a name of its own."""
    now = time.time()
    return Submission(f"{int(now * 1000)}-{token_hex(4)}", model, address, shard, now, requests)


async def _settled(call: Awaitable[Any]) -> Any:  # noqa: ANN401 - LiteLLM's types are partial
    """The call's result. When we are stopped it is given a moment.

    LiteLLM makes a request in another thread and then awaits it: stopped between the two, Python
    warns of a coroutine that nobody awaited.
    """
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=LAST_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _failed(record: BatchRecord, state: BatchState) -> CallError:
    """Nothing of it was bought."""
    words = f"batch {record.batch_id} of {len(record.submission.requests):,} requests failed: "
    if any(sign in state.problem for sign in QUOTA):
        hint = "; a lower batch_size asks for less at once"
        return CallError(
            CallErrorKind.RATE, words + state.problem + hint, retry_after=QUOTA_SECONDS
        )
    return CallError(CallErrorKind.FATAL, words + state.problem)


def _errors(batch: Any) -> list[Any]:  # noqa: ANN401 - LiteLLM's types are partial
    return list(batch.errors.data or []) if batch.errors else []


def _unsupported(model: str) -> str:
    known = " and ".join(f"{provider}/..." for provider in PROVIDERS)
    return (
        f"there is no batch API for {model}: batches work with {known}. A provider with OpenAI's "
        "batch API is asked as openai/<model> with its --api-base; else leave out --batch"
    )
