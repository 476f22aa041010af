"""Read a model's answer: JSON that satisfies the schema, or the reason why it does not."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any
from unicodedata import category

from pydantic import JsonValue

from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.json_objects import find_objects, read_json
from persona_pipeline.llm.requests import BROKEN_OFF, ChatReply, ChatRequest, Message, schema_json
from persona_pipeline.llm.surely_valid import surely_valid
from persona_pipeline.llm.thoughts import end_of_thoughts, is_unfinished, split_thoughts

if TYPE_CHECKING:
    import jsonschema

SHOWN = 200
"""The most characters of a problem or refusal that the user and the model see."""
REFUSED = {
    "refused", "refusal", "content_filter", "safety", "sensitive", "recitation", "blocklist",
    "prohibited_content",
}  # fmt: skip
EMPTY = "empty answer"
NO_ROOM = "the model's thoughts took all of the"
"""How the reason of an answer begins that has no room beside the thoughts."""
BREAKS = "\t\n\r"
NO_TEXT = {"Cc", "Cn", "Co", "Cs"}
"""Unicode's categories of what is no text: controls, unassigned and private signs, surrogates."""
_LITERAL_ESCAPES = re.compile(r"(?<!\\)(?:\\u[0-9a-fA-F]{4})+")
"""Matches characters that were escaped twice, so that their escapes are left as text."""
NO_LONGER_FITS = "the answer does not fit its schema once its control characters are removed"
"""What is wrong with an answer that an earlier version bought and accepted."""


def parse_answer(text: str, schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the one object of the text that satisfies the schema.

    Around it there may be thoughts, sentences, a code fence and other objects. What the model
    thought of before the end of its thoughts is no answer.

    Raises:
        ValueError: no object of the text satisfies the schema, or several different ones do. The
            message says where.
    """
    validator = _validator(schema_json(schema))
    problem: ValueError | None
    try:
        whole = read_json(text)
        problem = _misfit(validator, whole)
    except ValueError as error:
        problem = error
    else:
        if problem is None:
            answer: dict[str, JsonValue] = whole
            return _without_escapes(answer, text, validator)
    return _without_escapes(_fitting_object(text, validator, problem), text, validator)


def _fitting_object(
    text: str, validator: "_Validator", problem: ValueError
) -> dict[str, JsonValue]:
    """Return the only object after the thoughts that satisfies the schema.

    Raises:
        ValueError: there is none, or there are several. `problem` is raised if there is no object
            at all, or if the whole text is JSON.
    """
    objects = list(find_objects(text))
    start = end_of_thoughts(text, objects)
    fitting: dict[str, dict[str, JsonValue]] = {}
    for item in find_objects(text[start:]) if start else objects:
        misfit = _misfit(validator, item.value)
        if misfit is None:
            fitting[json.dumps(item.value, sort_keys=True)] = item.value
        elif not isinstance(problem, MisfitError):
            problem = misfit
    if len(fitting) > 1:
        msg = f"the answer holds {len(fitting)} different objects that satisfy the schema"
        raise ValueError(msg)
    if not fitting:
        raise problem
    return next(iter(fitting.values()))


class MisfitError(ValueError):
    """Report JSON that does not satisfy the schema."""


def _misfit(validator: "_Validator", value: object) -> MisfitError | None:
    if validator.is_sure(value):
        return None
    error = next(iter(validator.library.iter_errors(value)), None)
    if error is None:
        return None
    place = ".".join(map(str, error.absolute_path)) or "answer"
    return MisfitError(f"{place}: {error.message[:SHOWN]}")


def check_reply(request: ChatRequest, reply: ChatReply) -> ChatReply:
    """Return a usable reply. Its text is the answer, wherever the server put it.

    An answer that satisfies the schema is used whatever the server says of its end.

    Raises:
        CallError: the reply was billed and cannot be used. It is transient if the server gave up,
            else invalid. The message says what is wrong.
    """
    reason = reply.finish_reason
    if reason.lower() in REFUSED:
        refusal = reply.text.strip()[:SHOWN] or reason
        raise CallError(CallErrorKind.INVALID, f"the model refused: {refusal}")
    try:
        return _usable(request, reply)
    except ValueError as error:
        if BROKEN_OFF.search(reason):
            msg = f"the server broke the answer off ({reason})"
            raise CallError(CallErrorKind.TRANSIENT, msg) from error
        problem = _cut_off(request, reply) if reply.is_cut_off else str(error)
        raise CallError(CallErrorKind.INVALID, problem) from error


def _usable(request: ChatRequest, reply: ChatReply) -> ChatReply:
    """Return the reply whose text satisfies the schema.

    Raises:
        ValueError: neither its text nor its reasoning does.
    """
    if is_all_thoughts(reply):
        raise ValueError(EMPTY)
    if reply.text.strip():
        _check_answer(request, reply.text)
        return reply
    try:
        _check_answer(request, "" if BROKEN_OFF.search(reply.finish_reason) else reply.reasoning)
    except ValueError:
        raise ValueError(EMPTY) from None
    return replace(reply, text=reply.reasoning)


def _check_answer(request: ChatRequest, text: str) -> None:
    answer = parse_answer(text, request.schema)
    left = (run[0] for one in _strings(answer) if (run := _LITERAL_ESCAPES.search(one)))
    if "\\u" in text and (escaped := next(left, None)):
        msg = f"a character is escaped twice and cannot be read ({escaped[:SHOWN]})"
        raise ValueError(msg)


def is_all_thoughts(reply: ChatReply) -> bool:
    """Return whether the reply ran out of tokens before its answer began."""
    return reply.is_cut_off and (not reply.text.strip() or is_unfinished(reply.text))


def _cut_off(request: ChatRequest, reply: ChatReply) -> str:
    tokens = request.sampling.max_tokens
    if is_all_thoughts(reply):
        return (
            f"{NO_ROOM} {tokens} tokens: raise the setting reasoning_tokens, or set a lower "
            "reasoning_effort"
        )
    return f"answer was cut off ({reply.finish_reason}) at {tokens} tokens"


def ask_again(
    request: ChatRequest, reply: ChatReply, problem: str, *, room: int = 0
) -> ChatRequest:
    """Return the request to send after an unusable answer.

    A refused or empty answer gets the same request. A truncated one gets twice the tokens, and at
    least `room` more. Any other gets the answer and the problem as further turns.
    """
    origin = request.origin or request.call_key
    if reply.is_cut_off:
        tokens = request.sampling.max_tokens
        longer = replace(request.sampling, max_tokens=tokens + max(tokens, room))
        return replace(request, sampling=longer, origin=origin)
    _, answer = split_thoughts(reply.text)
    if reply.finish_reason.lower() in REFUSED or not answer.strip():
        return request
    turns: list[Message] = [
        {"role": "assistant", "content": answer},
        {
            "role": "user",
            "content": f"This cannot be used. {problem}\nWrite the whole answer once more: one "
            "JSON object of the given schema, and nothing else.",
        },
    ]
    return replace(request, messages=(*request.messages, *turns), origin=origin)


def _without_escapes(
    answer: dict[str, JsonValue], text: str, validator: "_Validator"
) -> dict[str, JsonValue]:
    """Return the answer with characters for their escapes, if it still satisfies the schema."""
    if "\\u" not in text:
        return answer
    decoded: Any = _decoded(answer)
    return answer if _misfit(validator, decoded) else decoded


def _decoded(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return _LITERAL_ESCAPES.sub(_decode_run, value)
    if isinstance(value, dict):
        return {key: _decoded(item) for key, item in value.items()}
    return [_decoded(item) for item in value] if isinstance(value, list) else value


def _decode_run(run: re.Match[str]) -> str:
    """Return the characters of escapes in a row, or the escapes if a table cannot hold them."""
    characters: str = json.loads(f'"{run[0]}"')
    is_text = all(one in BREAKS or category(one) not in NO_TEXT for one in characters)
    return characters if is_text else run[0]


def _strings(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


class _Validator:
    """What tells whether a value satisfies a schema."""

    def __init__(self, schema: dict[str, JsonValue]) -> None:
        self._schema = schema
        self.is_sure = surely_valid(schema)

    @cached_property
    def library(self) -> "jsonschema.Draft202012Validator":
        """The validator of the library, for values of which `is_sure` is false."""
        import jsonschema  # noqa: PLC0415 - 0.2 s, needed only once an answer is doubtful

        return jsonschema.Draft202012Validator(self._schema)


@lru_cache(maxsize=256)
def _validator(schema: str) -> _Validator:
    return _Validator(json.loads(schema))


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
