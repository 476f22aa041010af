"""Test that the provider's words are found, whatever form its error has."""

import json
from pathlib import Path

import pytest

from persona_pipeline.llm.clients.direct import DirectChatClient
from persona_pipeline.llm.clients.error_bodies import error_in_answer, read_error
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from tests.support.compared_clients import CLIENTS, Kind, ask, request_to
from tests.support.faulty_server import Reply, chat, serve
from tests.support.purchases import buy

FATAL, RATE = CallErrorKind.FATAL, CallErrorKind.RATE
PERMANENT, TRANSIENT = CallErrorKind.PERMANENT, CallErrorKind.TRANSIENT

SUSPENDED = "Your account is suspended due to insufficient balance, please recharge your account"
OPENROUTERS = {
    "error": {
        "message": "Provider returned error",
        "code": 429,
        "metadata": {
            "provider_name": "Moonshot AI",
            "raw": json.dumps(
                {"error": {"message": SUSPENDED, "type": "exceeded_current_quota_error"}}
            ),
        },
    }
}

IN_A_200 = {
    "OpenAI's": ({"error": {"message": "overloaded, try later", "code": "overloaded"}}, TRANSIENT),
    "a text": ({"error": "overloaded, try later"}, TRANSIENT),
    "FastAPI's": ({"detail": "overloaded, try later"}, TRANSIENT),
    "flat": ({"message": "overloaded, try later", "code": 50500}, TRANSIENT),
    "MiniMax's": (
        {"base_resp": {"status_code": 1000, "status_msg": "overloaded, try later"}},
        TRANSIENT,
    ),
    "MiniMax's beside null": (
        {
            "choices": None,
            "base_resp": {"status_code": 1002, "status_msg": "rate limit: overloaded, try later"},
        },
        RATE,
    ),
    "Z.ai's old": ({"code": 500, "msg": "overloaded, try later", "success": False}, TRANSIENT),
    "a status in text": ({"error": {"code": "429", "message": "overloaded, try later"}}, RATE),
    "a type": (
        {"error": {"type": "rate_limit_error", "message": "overloaded, try later"}},
        RATE,
    ),
    "a wrong key": (
        {"error": {"type": "authentication_error", "message": "overloaded, try later"}},
        FATAL,
    ),
    "a bad request": (
        {"error": {"type": "invalid_request_error", "message": "overloaded, try later"}},
        PERMANENT,
    ),
    "within a choice": (
        {
            "choices": [
                {
                    "message": {"content": ""},
                    "finish_reason": "error",
                    "error": {"code": 502, "message": "overloaded, try later"},
                }
            ]
        },
        TRANSIENT,
    ),
    "JSON in a text": (
        {"error": {"message": '{"error": {"message": "overloaded, try later"}}'}},
        TRANSIENT,
    ),
}
UNPAID = {
    "OpenAI": (429, {"error": {"message": "pay", "code": "insufficient_quota"}}),
    "Moonshot": (429, {"error": {"message": SUSPENDED, "type": "exceeded_current_quota_error"}}),
    "Z.ai": (429, {"error": {"message": "Your account balance is not enough", "code": "1113"}}),
    "Z.ai in Chinese": (
        429,
        {"error": {"code": 1113, "message": "余额不足或无可用资源包,请充值。"}},
    ),
    "OpenRouter": (402, {"error": {"code": 402, "message": "Insufficient credits"}}),
    "OpenRouter's provider": (429, OPENROUTERS),
    "DeepSeek": (402, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}}),
    "Anthropic": (400, {"error": {"message": "Your credit balance is too low to access it"}}),
    "a reseller": (403, {"error": {"message": "Insufficient balance", "type": "forbidden"}}),
    "MiniMax": (200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
    "OpenRouter in a 200": (200, OPENROUTERS),
}
PACED = {
    "OpenAI": {"error": {"message": "Rate limit reached for gpt", "code": "rate_limit_exceeded"}},
    "Moonshot": {"error": {"message": "max RPM: 3", "type": "rate_limit_reached_error"}},
    "Z.ai": {"error": {"message": "too many requests", "code": "1302"}},
    "Google": {
        "error": {
            "code": 429,
            "message": "You exceeded your current quota, please check your plan and billing.",
            "status": "RESOURCE_EXHAUSTED",
        }
    },
    "nothing": {},
}


def reply(status: int, body: object) -> Reply:
    return Reply(status, json.dumps(body).encode())


def error_of(client: Kind, answer: Reply) -> CallError:
    with serve(answer) as server, pytest.raises(CallError) as caught:
        ask(client(api_base=server.url), request_to("openai/served"))
    return caught.value


@pytest.mark.parametrize(("body", "kind"), IN_A_200.values(), ids=IN_A_200)
def test_an_error_with_a_status_of_200_keeps_its_words_and_meaning(
    body: object, kind: CallErrorKind
) -> None:
    error = error_of(DirectChatClient, reply(200, body))
    assert str(error).endswith("overloaded, try later")
    assert error.kind is kind


@pytest.mark.parametrize(("status", "body"), UNPAID.values(), ids=UNPAID)
def test_an_account_without_money_is_fatal_and_not_a_pace(status: int, body: object) -> None:
    kinds = CLIENTS if status != 200 else [DirectChatClient]  # LiteLLM keeps no words of a 200
    for client in kinds:
        error = error_of(client, reply(status, body))
        assert (error.kind, error.is_unpaid, error.is_doubtful) == (FATAL, True, False)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("body", PACED.values(), ids=PACED)
def test_a_plain_rate_limit_stays_one(client: Kind, body: object) -> None:
    error = error_of(client, reply(429, body))
    assert (error.kind, error.is_unpaid) == (RATE, False)


def test_an_answer_beside_words_of_success_is_an_answer() -> None:
    body = json.loads(chat('{"persona": "A diver."}').body)
    body |= {"error": None, "base_resp": {"status_code": 0, "status_msg": "success"}}
    assert error_in_answer(body) is None
    with serve(reply(200, body)) as server:
        [answer] = ask(DirectChatClient(api_base=server.url), request_to("openai/served"))
    assert answer.text == '{"persona": "A diver."}'


def test_an_answer_without_choices_is_shown() -> None:
    error = error_of(DirectChatClient, reply(200, {"id": "42", "choices": []}))
    assert str(error) == (
        'HTTP 200: the server\'s answer holds no choices: {"id": "42", "choices": []}'
    )
    assert error.maybe_billed


def test_each_problem_of_a_list_is_named_with_its_place_and_without_its_input() -> None:
    problems = [
        {"type": "missing", "loc": ["body", "model"], "msg": "Field required", "input": "x" * 999},
        {"type": "int", "loc": ["body", "n"], "msg": "not a number"},
    ]
    error = read_error(json.dumps({"detail": problems}))
    assert error.words == "body.model: Field required; body.n: not a number"


def test_the_user_reads_at_once_that_the_account_is_empty(tmp_path: Path) -> None:
    with serve(reply(*UNPAID["Moonshot"])) as server:
        client = DirectChatClient(api_base=server.url)
        with pytest.raises(ModelError, match=r"has no money or quota left: .*insufficient balance"):
            buy(client, [request_to("openai/served")], tmp_path)
    assert len(server.sent) == 1
