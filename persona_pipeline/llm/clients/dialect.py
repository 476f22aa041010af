"""Learn from a server's refusals how its model wants to be asked.

Servers differ in what they take: a JSON schema, sampling, the name of the bound on tokens. Their
refusals say so, and cost nothing. What is learned holds for the model until the process ends, and
is no part of a call's key: the question is the same.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pydantic import JsonValue

from persona_pipeline.llm.clients.served import SAMPLING, schema_format
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Message

LOG = logging.getLogger(__name__)
BOUNDS_OF_TOKENS = ("max_tokens", "max_completion_tokens")
"""OpenAI's two names for the bound on an answer's tokens. Each is refused by some server."""
OPTIONAL = (*SAMPLING, "reasoning_effort")
"""Parameters that can be left out. The bound cannot: without it no budget holds."""
_FORMAT = re.compile(
    r"response_?format|json_?schema|json_?object|structured.?output|guided|grammar|\bschema\b",
    re.IGNORECASE,
)
"""Matches the refusal of a JSON schema or of JSON: DeepSeek, TGI, vLLM, llama.cpp, OpenAI."""
_UNKNOWN = re.compile(
    r"unsupported|not support|unknown|unrecognized|unexpected|not permitted|not allowed|extra|"
    r"instead|deprecated|not accept|unavailable|not available|invalid parameter|invalid argument",
    re.IGNORECASE,
)
"""Matches the refusal of a parameter's name. Other words refuse its value, such as a bound that is
too large."""


class SchemaMode(StrEnum):
    """Say how a model is told the schema of its answer."""

    JSON_SCHEMA = "json_schema"
    """The server holds the model to the schema."""
    JSON_OBJECT = "json_object"
    """The server holds the model to JSON, and the prompt shows the schema."""
    PROMPT = "prompt"
    """The prompt shows the schema."""


_NEXT = {
    SchemaMode.JSON_SCHEMA: SchemaMode.JSON_OBJECT, SchemaMode.JSON_OBJECT: SchemaMode.PROMPT
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dialect:
    """Hold how a model is asked. `bound`: the name of the bound on tokens, if it was learned."""

    schema_mode: SchemaMode = SchemaMode.JSON_SCHEMA
    left_out: frozenset[str] = frozenset()
    bound: str = ""

    def after(self, error: CallError) -> "Dialect | None":
        """Return the dialect to try after a refusal, or None if it says nothing of the dialect."""
        words = error.answer or str(error)
        if self._can_step(error, words):
            return replace(self, schema_mode=_NEXT[self.schema_mode])
        if error.kind not in {CallErrorKind.PERMANENT, CallErrorKind.FATAL}:
            return None
        if name := self._refused_parameter(words):
            return replace(self, left_out=self.left_out | {name})
        refused = next((name for name in BOUNDS_OF_TOKENS if _names(name, words)), None)
        if refused and not self.bound and _UNKNOWN.search(words):
            [other] = {*BOUNDS_OF_TOKENS} - {_first_named(BOUNDS_OF_TOKENS, words)}
            return replace(self, bound=other)
        return None

    def _can_step(self, error: CallError, words: str) -> bool:
        is_answer = bool(error.answer) or error.kind is not CallErrorKind.TRANSIENT
        return is_answer and self.schema_mode in _NEXT and bool(_FORMAT.search(words))

    def _refused_parameter(self, words: str) -> str:
        """Return the optional parameter that the words name first, of two the one that adds less.

        Anthropic refuses temperature and top_p together.
        """
        known = [name for name in OPTIONAL if name not in self.left_out and _names(name, words)]
        if {*SAMPLING} <= {*known} and "both" in words:
            return "top_p"
        return _first_named(known, words)

    def described(self) -> str:
        """Return what is asked in another way, for a log line."""
        parts = [f"schema_mode {self.schema_mode}"]
        parts += [f"without {', '.join(sorted(self.left_out))}"] if self.left_out else []
        parts += [f"{self.bound} for the bound on tokens"] if self.bound else []
        return ", ".join(parts)


@dataclass(slots=True)
class Dialects:
    """Keep the dialect of each model. `first`: how a model is asked that has refused nothing."""

    first: Dialect = field(default_factory=Dialect)
    _known: dict[str, Dialect] = field(default_factory=dict)

    def of(self, model: str) -> Dialect:
        """Return how the model is asked."""
        return self._known.get(model, self.first)

    async def ask(
        self, model: str, complete: Callable[[Dialect], Awaitable[ChatReply]]
    ) -> ChatReply:
        """Ask in the model's dialect, and again in another as long as the refusals name one.

        Raises:
            CallError: the refusal of the last dialect, or any other failure.
        """
        while True:
            used = self.of(model)
            try:
                return await complete(used)
            except CallError as error:
                if not self._learn(model, used, error):
                    raise

    def _learn(self, model: str, used: Dialect, error: CallError) -> bool:
        """Return whether asking again may help. Another call may have learned it meanwhile."""
        if self.of(model) != used:
            return used.after(error) is not None
        learned = used.after(error)
        if learned is None:
            return False
        self._known[model] = learned
        LOG.warning("model %s is asked with %s from now on: %s", model, learned.described(), error)
        return True


def request_params(
    request: ChatRequest, dialect: Dialect, *, is_own_server: bool
) -> dict[str, Any]:
    """Return sampling and structured output in OpenAI's parameters, without what is left out."""
    sampling = request.sampling
    optional = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    params: dict[str, Any] = {
        name: value
        for name, value in optional.items()
        if value is not None and name not in dialect.left_out
    }
    params[dialect.bound or BOUNDS_OF_TOKENS[0]] = sampling.max_tokens
    if dialect.schema_mode is SchemaMode.JSON_SCHEMA:
        params["response_format"] = schema_format(
            request.model, request.schema, is_own_server=is_own_server
        )
    elif dialect.schema_mode is SchemaMode.JSON_OBJECT:
        params["response_format"] = {"type": "json_object"}
    return params


def extra_params(request: ChatRequest, dialect: Dialect) -> dict[str, JsonValue]:
    """Return the request's own parameters, without what the server refuses."""
    return {
        name: value for name, value in request.parameters.items() if name not in dialect.left_out
    }


def messages_in(dialect: Dialect, request: ChatRequest) -> Sequence[Message]:
    """Return the request's messages. They show the schema, unless the server is told it."""
    if dialect.schema_mode is SchemaMode.JSON_SCHEMA:
        return request.messages
    words = (
        "Answer with one JSON object that satisfies this JSON schema, and nothing else:\n"
        f"{request.schema_json}"
    )
    first, rest = request.messages[0], request.messages[1:]
    if first["role"] != "system":
        return [{"role": "system", "content": words}, *request.messages]
    return [{**first, "content": f"{first['content']}\n\n{words}"}, *rest]


def _names(name: str, words: str) -> bool:
    return bool(re.search(rf"\b{name}\b", words))


def _first_named(names: Sequence[str], words: str) -> str:
    places = {words.find(name): name for name in names if _names(name, words)}
    return places[min(places)] if places else ""
