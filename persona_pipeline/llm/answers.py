"""Read a model's answer: JSON that satisfies the schema, or the reason why it does not."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from persona_pipeline.control_characters import clean_value
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Message, schema_json

if TYPE_CHECKING:
    import jsonschema

FINISHED = {"stop", "eos", "tool_calls", "function_call"}
REFUSED = {"refused", "content_filter"}
MAX_DIGITS = 18
"""The most digits that fit a column of whole numbers."""
SHOWN = 200
"""The most characters of a problem or refusal that the user and the model see."""
NO_LONGER_FITS = "the answer does not fit its schema once its control characters are removed"
"""What is wrong with an answer that an earlier version bought and accepted."""
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')
"""Matches a whole string, which stays, or a comma before a closing bracket, which is removed."""


def parse_answer(text: str, schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the answer as an object of the schema, after repairing slips that leave no doubt.

    Raises:
        ValueError: the text is not JSON, or does not satisfy the schema. The message says where.
    """
    answer = _read_json(text)
    error = next(iter(_validator(schema_json(schema)).iter_errors(answer)), None)
    if error is not None:
        place = ".".join(map(str, error.absolute_path)) or "answer"
        msg = f"{place}: {error.message[:SHOWN]}"
        raise ValueError(msg)
    checked: dict[str, JsonValue] = answer
    return checked


def check_reply(request: ChatRequest, reply: ChatReply) -> None:
    """Refuse a reply that was billed but cannot be used.

    Raises:
        CallError: of kind invalid. The message says what is wrong.
    """
    if reply.finish_reason in REFUSED:
        refusal = reply.text.strip()[:SHOWN] or reply.finish_reason
        raise CallError(CallErrorKind.INVALID, f"the model refused: {refusal}")
    if not reply.text.strip():
        raise CallError(CallErrorKind.INVALID, "empty answer")
    if reply.finish_reason not in FINISHED:
        raise CallError(CallErrorKind.INVALID, f"answer was cut off ({reply.finish_reason})")
    try:
        parse_answer(reply.text, request.schema)
    except ValueError as error:
        raise CallError(CallErrorKind.INVALID, str(error)) from error


def ask_again(request: ChatRequest, reply: ChatReply, problem: str) -> ChatRequest:
    """Return the request to send after an unusable answer.

    A refused or empty answer gets the same request. A truncated one gets twice the tokens. Any
    other gets the answer and the problem as further turns.
    """
    if reply.finish_reason in REFUSED or not reply.text.strip():
        return request
    if reply.finish_reason not in FINISHED:
        room = replace(request.sampling, max_tokens=2 * request.sampling.max_tokens)
        return replace(request, sampling=room, origin=request.call_key)
    turns: list[Message] = [
        {"role": "assistant", "content": reply.text},
        {
            "role": "user",
            "content": f"This cannot be used. {problem}\nWrite the whole answer once more: one "
            "JSON object of the given schema, and nothing else.",
        },
    ]
    return replace(request, messages=(*request.messages, *turns), origin=request.call_key)


def _read_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Read only what the tables can hold, without control characters.

    `json.loads` also accepts lone surrogates, NaN and any depth of nesting.
    """
    try:
        answer = _first_readable(text)
        if "\\u" in text or not text.isascii():
            json.dumps(answer, ensure_ascii=False).encode()
        answer = clean_value(answer)
    except UnicodeEncodeError as error:
        msg = f"half a character ({error.object[error.start]!r})"
        raise ValueError(msg) from None
    except RecursionError:
        msg = "nested too deeply"
        raise ValueError(msg) from None
    return answer


def _first_readable(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the text as JSON, else its first repaired form that is JSON.

    Raises:
        ValueError: no form is JSON. The error is that of the text itself.
    """
    try:
        return _DECODER.decode(text)
    except ValueError as error:
        for mended in _mended(text):
            try:
                return _LENIENT_DECODER.decode(mended)
            except ValueError:
                continue
        raise error from None


def _mended(text: str) -> Iterator[str]:
    """Yield the object without its surroundings, then also without stray commas.

    The surroundings are a code fence or a sentence. Nothing is ever added, so a truncated text
    stays unreadable. Line breaks inside strings are kept.
    """
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end:
        inner = text[start : end + 1]
        yield inner
        yield _TRAILING_COMMA.sub(lambda match: match[1] or "", inner)


def _read_integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        msg = f"{digits[:MAX_DIGITS]}... is too large a number"
        raise ValueError(msg)
    return int(digits)


def _refuse_constant(name: str) -> float:
    msg = f"{name} is no number that JSON or a table knows"
    raise ValueError(msg)


def _read_decimal(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        msg = f"{digits[:MAX_DIGITS]} is too large a number"
        raise ValueError(msg)
    return number


_HOOKS: dict[str, Any] = {
    "parse_int": _read_integer, "parse_float": _read_decimal, "parse_constant": _refuse_constant
}  # fmt: skip
_DECODER = json.JSONDecoder(**_HOOKS)
_LENIENT_DECODER = json.JSONDecoder(**_HOOKS, strict=False)


@lru_cache(maxsize=256)
def _validator(schema: str) -> "jsonschema.Draft202012Validator":
    import jsonschema  # noqa: PLC0415 - 0.2 s, needed only once an answer is checked

    return jsonschema.Draft202012Validator(json.loads(schema))


def failure_reason(call: Answer) -> tuple[str, str]:
    """Return (reason, detail) of a call without a usable answer.

    The reason is in both closed lists: that of personas and that of records.
    """
    reason = "call_failed" if call.status == "failed" else "invalid_answer"
    return reason, call.error or (NO_LONGER_FITS if call.status == "ok" else "")


def answer_of(call: Answer, schema: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
    """Return the parsed answer of a usable call, else None.

    An earlier version accepted answers that are too short without their control characters.
    """
    if call.status != "ok" or call.response is None:
        return None
    try:
        return parse_answer(call.response, schema)
    except ValueError:
        return None
