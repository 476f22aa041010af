"""Call a provider's batch API through LiteLLM's file and batch calls.

A batch is answered within a day, at a lower price.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from persona_pipeline.llm.batches.providers import find_route
from persona_pipeline.llm.batches.records import (
    ANSWERED,
    BatchRecord,
    Submission,
    address_of,
    is_answer,
)
from persona_pipeline.llm.clients.litellm_client import import_litellm, translate
from persona_pipeline.llm.clients.served import read_reply, refused, refused_in_answer, shown
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply

WINDOW = "24h"
TRANSFER_SECONDS = 600.0
"""Seconds for a file of 100 MB."""
OVER = {"completed", "expired", "cancelled", "failed"}
QUOTA = ("token_limit_exceeded", "Enqueued token limit")
"""Signs of a batch that fails because too much is queued already. It may pass at another time."""
QUOTA_SECONDS = 60.0
PAGE = 100
CLOCKS_APART = 3600.0
"""Seconds that our clock may be ahead of the provider's."""
CLOSE = {"Connection": "close"}
"""LiteLLM opens a client for each of these calls and never closes it."""
LAST_SECONDS = 0.1
"""Seconds for a call in flight when we are stopped. See `_settled`."""
NO_LOGGING = {"batch_ignore_default_logging": True}
"""Without this, LiteLLM downloads the answers of a finished batch once more, to add up its cost."""


class NeverSubmitted(Exception):  # noqa: N818 - not an error: nothing was bought
    """Report that the provider has no batch of this submission."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """Hold what the provider reports of a batch."""

    status: str
    files: tuple[str, ...]
    done: int
    problem: str

    @property
    def is_over(self) -> bool:
        """Whether the batch will change no more."""
        return self.status in OVER


class BatchApi:
    """Call the batch API for one model at one server. Every error is a `CallError`."""

    def __init__(
        self, model: str, *, api_base: str | None = None, api_key: str | None = None
    ) -> None:
        """Take the arguments of a chat client.

        Raises:
            CallError: the server has no batches that we can use, or its key is missing.
        """
        self.route = find_route(model, api_base, (api_key or "").strip() or None)
        self.model, self.address = model, address_of(self.route.address)
        self._key = self.route.key
        self._server = {
            "custom_llm_provider": self.route.provider,
            "api_base": self.route.address,
            "api_key": self._key,
            "timeout": TRANSFER_SECONDS,
            "max_retries": 0,
            "extra_headers": CLOSE,
            "litellm_metadata": NO_LOGGING,
            **self.route.more,
        }

    async def upload(self, name: str, lines: bytes) -> str:
        """Upload the requests of a batch without buying anything. Return the file's id."""
        file = (f"{name}.jsonl", lines, "application/jsonl")
        sent = await self._call(import_litellm().acreate_file, file=file, purpose="batch")
        return str(sent.id)

    async def create(self, file_id: str, submission: Submission) -> str:
        """Buy the answers to an uploaded file. Return the batch's id."""
        batch = await self._call(
            import_litellm().acreate_batch,
            completion_window=WINDOW,
            endpoint=self.route.endpoint,
            input_file_id=file_id,
            metadata={"submission": submission.submission},
        )
        return str(batch.id)

    async def find(self, submission: Submission) -> str | None:
        """Return the id of the submission's batch, if the provider accepted it.

        Raises:
            CallError: nobody but the user can find it.
        """
        if not self.route.can_list:
            raise CallError(CallErrorKind.FATAL, _unlisted(submission))
        after = None
        while True:
            page = await self._call(import_litellm().alist_batches, limit=PAGE, after=after)
            if self.route.provider != "azure":  # LiteLLM keeps that client, and uses it again
                await page._client.close()  # noqa: SLF001 - this call accepts no headers: see CLOSE
            for batch in page.data:
                if (batch.metadata or {}).get("submission") == submission.submission:
                    return str(batch.id)
            oldest = min((batch.created_at for batch in page.data), default=0)
            if not page.has_more or oldest < submission.created_at - CLOCKS_APART:
                return None
            after = page.data[-1].id

    async def retrieve(self, batch_id: str) -> BatchState:
        """Return how far a batch is."""
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
        """Return the answers and errors of a finished batch, one per line."""
        contents = [
            (await self._call(import_litellm().afile_content, file_id=file)).content
            for file in files
        ]
        return b"".join(content.rstrip(b"\n") + b"\n" for content in contents)

    def read_result(self, line: dict[str, Any]) -> ChatReply:
        """Return the reply on a line of the results.

        Raises:
            CallError: the line has no reply.
        """
        response = line.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
        if is_answer(line):
            return read_reply(body)
        if not status:
            problem = (line.get("error") or {}).get("message") or "the batch ended without it"
            raise CallError(CallErrorKind.TRANSIENT, shown(str(problem), self._key))
        error = refused_in_answer(body, self._key) if status == ANSWERED else None
        error = error or refused(status, {}, json.dumps(body), self._key)
        if error.kind is CallErrorKind.RATE:  # not our pace: retried, but not for ever
            error.kind = CallErrorKind.TRANSIENT
        raise error

    async def _call(self, function: Callable[..., Awaitable[Any]], **asked: object) -> Any:  # noqa: ANN401 - LiteLLM's types are partial
        try:
            return await _settled(function(**asked, **self._server))
        except _known_errors() as error:
            raise translate(error, self._key) from None  # its text may contain the key


async def advance(record: BatchRecord, api: BatchApi) -> BatchState | None:
    """Advance a locked record by one step: to the id of its batch, or to its results.

    Raises:
        NeverSubmitted: nothing was bought. The record was dropped.
        CallError: of kind rate or transient if it may go on later.
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


def new_submission(model: str, address: str, shard: str, requests: dict[str, str]) -> Submission:
    """Return a submission of these requests, with a unique name."""
    now = time.time()
    return Submission(f"{int(now * 1000)}-{token_hex(4)}", model, address, shard, now, requests)


async def _settled(call: Awaitable[Any]) -> Any:  # noqa: ANN401 - LiteLLM's types are partial
    """Return the call's result. When we are stopped, give the call a moment.

    LiteLLM makes a request in another thread and then awaits it. If it is stopped between the two,
    Python warns of a coroutine that was never awaited.
    """
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=LAST_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _known_errors() -> tuple[type[Exception], ...]:
    """Return the base of LiteLLM's errors, and those that it raises as they come for Mistral."""
    import httpx  # noqa: PLC0415 - LiteLLM imports it

    litellm = import_litellm()
    base: type[Exception] = litellm.exceptions.openai.OpenAIError
    raw: type[Exception] = litellm.llms.base_llm.chat.transformation.BaseLLMException
    return base, raw, httpx.HTTPError


def _failed(record: BatchRecord, state: BatchState) -> CallError:
    """Return the error of a batch that failed. Nothing of it was bought."""
    words = f"batch {record.batch_id} of {len(record.submission.requests):,} requests failed: "
    if any(sign in state.problem for sign in QUOTA):
        hint = "; a lower batch_size asks for less at once"
        return CallError(
            CallErrorKind.RATE, words + state.problem + hint, retry_after=QUOTA_SECONDS
        )
    return CallError(CallErrorKind.FATAL, words + state.problem)


def _errors(batch: Any) -> list[Any]:  # noqa: ANN401 - LiteLLM's types are partial
    return list(batch.errors.data or []) if batch.errors else []


def _unlisted(submission: Submission) -> str:
    return (
        f"the answer to the submission of a batch was lost, and LiteLLM cannot list the batches of "
        f"{submission.model}. Look at the provider whether it has one with submission "
        f"{submission.submission}. If it has, add the line "
        '{"batch_id": "<its id>"} to the record; if not, delete the record'
    )
