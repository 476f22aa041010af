"""Test what servers were seen to answer: each good answer is kept, and bought in one call."""

import json
from pathlib import Path

import pytest

from persona_pipeline.llm.clients.direct import DirectChatClient
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient
from tests.support.faulty_server import Reply, chat, serve
from tests.support.purchases import buy_one, make_request

PERSONA = "A lock keeper who repairs canal gates by hand and keeps a log of every boat."
ANSWER = json.dumps({"persona": PERSONA})
DRAFT = json.dumps({"persona": "A boatman."})
MODEL = "openai/served"


@pytest.mark.parametrize(
    "reply",
    [
        chat(ANSWER, "STOP"),
        chat(ANSWER, "stop_token"),
        chat(ANSWER, "completed"),
        chat(ANSWER, "unheard_of"),
        chat(ANSWER, "length"),
        chat(ANSWER, "error"),
        chat(f"Let me see {{a page}}.\n</think>\n{ANSWER}"),
        chat(f"<think>{DRAFT}</think>{ANSWER}"),
        chat(
            f"<|channel|>analysis<|message|>{DRAFT}<|start|>assistant<|channel|>final<|message|>{ANSWER}"
        ),
        chat(f"{ANSWER}\nI hope {{this}} helps."),
        chat(f"{ANSWER}{ANSWER}"),
        chat(None, reasoning_content=ANSWER),
        chat(None, reasoning=ANSWER),
        chat(f"<think>{ANSWER}"),
        chat("", reasoning_content=f"Well.\n{ANSWER}"),
        chat(ANSWER, reasoning_content=DRAFT),
        chat(ANSWER.replace("canal", r"\\u0063anal")),
    ],
    ids=lambda reply: json.dumps(json.loads(reply.body)["choices"][0])[:150],
)
def test_a_good_answer_is_kept_in_one_call(reply: Reply, tmp_path: Path) -> None:
    with serve(reply) as server:
        call = buy_one(DirectChatClient(api_base=server.url), make_request(model=MODEL), tmp_path)
    assert call.status == "ok"
    assert PERSONA in str(call.response).replace(r"\\u0063", "c")
    assert len(server.sent) == 1


@pytest.mark.parametrize("client", [DirectChatClient, LiteLLMChatClient])
@pytest.mark.parametrize("reason", ["error", "abort"])
def test_an_answer_that_the_server_broke_off_is_asked_for_until_it_comes(
    client: type[DirectChatClient | LiteLLMChatClient], reason: str, tmp_path: Path
) -> None:
    with serve(chat("", reason), chat(ANSWER[:20], reason), chat(ANSWER)) as server:
        call = buy_one(client(api_base=server.url), make_request(model=MODEL), tmp_path)
    assert (call.status, call.response, len(server.sent)) == ("ok", ANSWER, 3)
    assert call.tokens_out == 9


def test_an_answer_that_is_always_broken_off_fails_and_is_asked_for_by_the_next_run(
    tmp_path: Path,
) -> None:
    request = make_request(model=MODEL)
    with serve(*[chat("", "error")] * 5, chat(ANSWER)) as server:
        client = DirectChatClient(api_base=server.url)
        call = buy_one(client, request, tmp_path)
        assert (call.status, call.error) == ("failed", "the server broke the answer off (error)")
        assert buy_one(client, request, tmp_path).status == "ok"
    assert len(server.sent) == 6
