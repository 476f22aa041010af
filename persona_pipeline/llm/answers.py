"""Reading a model's answer: JSON that satisfies the schema, or the reason why not."""

import json
from functools import lru_cache
from typing import Any

import jsonschema
from pydantic import JsonValue

from persona_pipeline.hashing import canonical_json
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply, ChatRequest

FINISHED = {"stop", "eos", "tool_calls", "function_call"}
MAX_DIGITS = 18
"""More do not fit a column of whole numbers."""


def parse_answer(text: str, schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The answer as an object of the schema.

    Raises:
        ValueError: it is not JSON, or not of the schema; the message says where.
    """
    answer = _read_json(_without_code_fence(text))
    error = next(iter(_validator(canonical_json(schema)).iter_errors(answer)), None)
    if error is not None:
        place = ".".join(map(str, error.absolute_path)) or "answer"
        msg = f"{place}: {error.message[:200]}"
        raise ValueError(msg)
    checked: dict[str, JsonValue] = answer
    return checked


def check_reply(request: ChatRequest, reply: ChatReply) -> None:
    """Refuse what was billed but cannot be used.

    Raises:
        CallError: of kind invalid; the message says what was wrong.
    """
    if not reply.text.strip():
        raise CallError(CallErrorKind.INVALID, "empty answer")
    if reply.finish_reason not in FINISHED:
        raise CallError(CallErrorKind.INVALID, f"answer was cut off ({reply.finish_reason})")
    try:
        parse_answer(reply.text, request.schema)
    except ValueError as error:
        raise CallError(CallErrorKind.INVALID, str(error)) from error


def _read_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """What the tables can hold: `json.loads` also takes half characters, NaN and any nesting."""
    try:
        answer = json.loads(text, parse_int=_read_integer)
        json.dumps(answer, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        msg = f"half a character ({error.object[error.start]!r})"
        raise ValueError(msg) from None
    except RecursionError:
        msg = "nested too deeply"
        raise ValueError(msg) from None
    return answer


def _read_integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        msg = f"{digits[:MAX_DIGITS]}... is too large a number"
        raise ValueError(msg)
    return int(digits)


def _without_code_fence(text: str) -> str:
    stripped = text.strip()
    if stripped.startswith("```"):
        stripped = stripped.split("\n", 1)[-1].removesuffix("```")
    return stripped


@lru_cache(maxsize=256)
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(schema))
