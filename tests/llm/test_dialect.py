"""Test what is learned from refusals: a format or parameter that a server does not take."""

import json
from pathlib import Path
from typing import Any

import pytest

from persona_pipeline.llm.clients.dialect import Dialect, Dialects, SchemaMode
from persona_pipeline.llm.clients.direct import DirectChatClient
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatRequest
from tests.support.picky_server import Answer, Body, completion, refusal, serve_picky
from tests.support.purchases import GOOD, SCHEMA, buy, buy_one, make_request

CLIENTS = [DirectChatClient, LiteLLMChatClient]
MODEL = "openai/served"
MANY = [make_request(str(number), model=MODEL) for number in range(20)]
SHOWN = (
    "Answer with one JSON object that satisfies this JSON schema, and nothing else:\n"
    '{"additionalProperties":false,"properties":{"persona":{"minLength":3,"type":"string"}},'
    '"required":["persona"],"type":"object"}'
)
TGI = (
    "Failed to deserialize the JSON body into the target type: response_format.type: unknown "
    "variant `{}`, expected one of `json`, `regex` at line 1 column 120"
)


def takes_formats(*types: str | None, status: int = 400, message: str = "") -> Answer:
    """Answer requests with one of these response formats only. None: no format at all."""

    def answer(body: Body) -> tuple[int, Body]:
        kind = body.get("response_format", {}).get("type")
        if kind in types:
            return 200, completion(GOOD)
        words = message or "This response_format type is unavailable now: {}"
        return status, refusal(words.replace("{}", str(kind)))

    return answer


def refuses(name: str, status: int = 400, **body: Any) -> Answer:  # noqa: ANN401 - JSON
    """Refuse requests that hold the parameter."""

    def answer(asked: Body) -> tuple[int, Body]:
        return (status, body) if name in asked else (200, completion(GOOD))

    return answer


@pytest.mark.parametrize("client", CLIENTS)
def test_a_model_without_json_schema_is_asked_for_a_json_object_from_then_on(
    client: type[DirectChatClient | LiteLLMChatClient], tmp_path: Path
) -> None:
    with serve_picky(takes_formats("json_object")) as server:
        answers = buy(client(api_base=server.url, max_concurrency=4), MANY, tmp_path)
    assert {answer.status for answer in answers.values()} == {"ok"}
    assert server.answered == 20
    assert len(server.bodies) <= 20 + 4  # the calls that were in flight when it was learned
    assert server.bodies[-1]["response_format"] == {"type": "json_object"}
    assert server.bodies[-1]["messages"][0] == {"role": "system", "content": SHOWN}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_model_without_any_format_is_shown_the_schema_in_the_prompt(
    client: type[DirectChatClient | LiteLLMChatClient], tmp_path: Path
) -> None:
    with serve_picky(takes_formats(None, status=422, message=TGI)) as server:
        call = buy_one(client(api_base=server.url), MANY[0], tmp_path)
    assert (call.status, call.attempts, server.answered) == ("ok", 1, 1)
    formats = [body.get("response_format", {}).get("type") for body in server.bodies]
    assert formats == ["json_schema", "json_object", None]
    assert server.bodies[-1]["messages"][0]["content"] == SHOWN
    assert call.call_key == MANY[0].call_key


def test_the_schema_is_added_to_the_system_message_that_is_there() -> None:
    turns = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"})
    request = ChatRequest(MODEL, turns, SCHEMA, MANY[0].sampling)
    with serve_picky(takes_formats("json_object")) as server:
        buy_one(DirectChatClient(api_base=server.url), request)
    assert server.bodies[-1]["messages"] == [
        {"role": "system", "content": f"Be brief.\n\n{SHOWN}"},
        turns[1],
    ]


@pytest.mark.parametrize("mode", SchemaMode)
def test_a_mode_that_is_set_is_the_first_one(mode: SchemaMode) -> None:
    kind = None if mode is SchemaMode.PROMPT else str(mode)
    with serve_picky(takes_formats(kind)) as server:
        client = DirectChatClient(api_base=server.url, dialects=Dialects(Dialect(mode)))
        assert buy_one(client, MANY[0]).status == "ok"
    assert len(server.bodies) == 1


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("temperature", 400, refusal("Unsupported parameter: temperature", param="temperature")),
        (
            "temperature",
            400,
            refusal(
                "Unsupported value: 'temperature' does not support 0.7 with this model. Only the "
                "default (1) value is supported."
            ),
        ),
        ("temperature", 400, refusal("invalid temperature: only 0.6 is allowed for this model")),
        (
            "top_p",
            400,
            refusal(
                "`temperature` and `top_p` cannot both be specified for this model. "
                "Please use only one."
            ),
        ),
        ("top_p", 422, {"detail": [{"loc": ["body", "top_p"], "msg": "Extra inputs"}]}),
    ],
)  # fmt: skip
def test_sampling_that_is_refused_is_left_out_from_then_on(
    client: type[DirectChatClient | LiteLLMChatClient],
    name: str,
    status: int,
    body: Body,
    tmp_path: Path,
) -> None:
    with serve_picky(refuses(name, status, **body)) as server:
        answers = buy(client(api_base=server.url, max_concurrency=4), MANY, tmp_path)
    assert {answer.status for answer in answers.values()} == {"ok"}
    assert set(answers) == {request.call_key for request in MANY}
    assert server.answered == 20
    assert len(server.bodies) <= 20 + 4
    [other] = {"temperature", "top_p"} - {name}
    assert (name in server.bodies[-1], other in server.bodies[-1]) == (False, True)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_bound_on_tokens_under_another_name_is_renamed(
    client: type[DirectChatClient | LiteLLMChatClient], tmp_path: Path
) -> None:
    words = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead."
    )
    with serve_picky(refuses("max_tokens", **refusal(words, param="max_tokens"))) as server:
        assert buy_one(client(api_base=server.url), MANY[0], tmp_path).status == "ok"
    assert [body.get("max_tokens") for body in server.bodies] == [256, None]
    assert server.bodies[-1]["max_completion_tokens"] == 256


def test_all_that_a_model_refuses_is_learned_one_by_one(tmp_path: Path) -> None:
    def answer(body: Body) -> tuple[int, Body]:
        for name in ("max_tokens", "temperature", "top_p"):
            if name in body:
                return 400, refusal(f"Unsupported parameter: '{name}'", param=name)
        return takes_formats(None)(body)

    with serve_picky(answer) as server:
        assert buy_one(DirectChatClient(api_base=server.url), MANY[0], tmp_path).status == "ok"
    assert len(server.bodies) == 6
    assert server.bodies[-1].keys() - {"extra_body"} == {
        "model", "messages", "max_completion_tokens"
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens is too large: 256. This model supports at most 128 completion tokens.",
        "This model's maximum context length is 10 tokens",
        "the page is too long",
        "no",
    ],
)
def test_a_refusal_of_the_request_itself_teaches_nothing(words: str, tmp_path: Path) -> None:
    with serve_picky(lambda _: (400, refusal(words))) as server:
        call = buy_one(DirectChatClient(api_base=server.url), MANY[0], tmp_path)
    assert (call.status, call.error) == ("failed", f"HTTP 400: {words}")
    assert len(server.bodies) == 1


def test_a_server_that_refuses_everything_is_asked_a_few_times_only(tmp_path: Path) -> None:
    words = "response_format, temperature, top_p, max_tokens and max_completion_tokens unsupported"
    with serve_picky(lambda _: (400, refusal(words))) as server:
        call = buy_one(DirectChatClient(api_base=server.url), MANY[0], tmp_path)
    assert call.status == "failed"
    assert len(server.bodies) == 6


def test_each_model_has_its_own_dialect() -> None:
    dialects = Dialects()
    error = CallError(CallErrorKind.PERMANENT, "Unsupported parameter: top_p")
    learned = Dialect().after(error)
    assert learned == Dialect(left_out=frozenset({"top_p"}))
    assert dialects.of("a") == dialects.of("b") == Dialect()


@pytest.mark.parametrize(
    "kind", [CallErrorKind.RATE, CallErrorKind.TRANSIENT, CallErrorKind.INVALID]
)
def test_only_a_refusal_teaches(kind: CallErrorKind) -> None:
    assert Dialect().after(CallError(kind, "temperature unsupported")) is None


def test_a_grammar_that_a_server_cannot_build_is_a_refused_schema() -> None:
    error = CallError(CallErrorKind.TRANSIENT, "HTTP 500: failed to parse grammar")
    error.answer = json.dumps(refusal("failed to parse grammar"))
    assert Dialect().after(error) == Dialect(SchemaMode.JSON_OBJECT)
