"""Compare the direct client with LiteLLM on a real server: same requests, same replies."""

from typing import Any

import aiohttp
import pytest

from persona_pipeline.llm.clients.routes import DIRECT_PROVIDERS
from tests.support.compared_clients import (
    CLIENTS,
    GOOD,
    HOSTED,
    KEY,
    LIBRARIES,
    MODELS,
    REPLIES,
    SPECIAL,
    ask,
    both,
    meaning,
    request_to,
)
from tests.support.faulty_server import (
    Reply,
    chat,
    serve,
)


def test_every_direct_provider_is_compared() -> None:
    assert set(MODELS) == set(DIRECT_PROVIDERS)


@pytest.mark.parametrize("model", [*MODELS.values(), *SPECIAL])
def test_both_clients_send_the_same_request_and_read_the_same_reply(model: str) -> None:
    with serve(chat(GOOD)) as server:
        replies = [
            ask(client(api_base=server.url, api_key=KEY), *[request_to(model)] * 2)
            for client in CLIENTS
        ]
    assert replies[0] == replies[1]
    first, second, third, fourth = map(meaning, server.sent)
    assert first == second == third == fourth


@pytest.mark.parametrize("variable", ["OPENAI_ORGANIZATION", "OPENAI_ORG_ID"])
def test_both_clients_tell_openai_who_pays(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-1")
    with serve(chat(GOOD)) as server:
        both(server, MODELS["openai"])
    for sent in server.sent:
        assert sent.headers["openai-organization"] == "org-1"
        assert sent.headers["openai-project"] == "project-1"


@pytest.mark.parametrize("provider", HOSTED)
def test_both_clients_know_the_same_address_and_key_of_a_hosted_provider(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    request = aiohttp.ClientSession._request  # noqa: SLF001 - the last step both take

    async def redirect(
        session: aiohttp.ClientSession,
        method: str,
        url: object,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> aiohttp.ClientResponse:
        asked.append(str(url))
        return await request(session, method, f"{server.url}/hosted", **options)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", redirect)
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", KEY)
    with serve(chat(GOOD)) as server:
        for client in CLIENTS:
            ask(client(), request_to(MODELS[provider]))
    assert asked[0] == asked[1]
    direct, litellm = map(meaning, server.sent)
    assert direct == litellm


@pytest.mark.parametrize("model", [*LIBRARIES, "groq/openai/gpt-oss-120b", "mistral/small"])
@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_both_clients_read_an_answer_alike(reply: Reply, model: str) -> None:
    with serve(reply) as server:
        direct, litellm = both(server, model)
    assert direct == litellm
