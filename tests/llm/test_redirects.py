"""A server that sends calls on, as from http to https, is named with the address to set."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from persona_pipeline.llm.clients.direct import DirectChatClient
from persona_pipeline.llm.clients.embedding_client import EmbeddingClient, embedding_request
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatRequest
from tests.support.compared_clients import request_to
from tests.support.http_server import Quiet, send_json, serve_http

KEY = "a-long-key"
CLIENTS: list[tuple[Callable[..., Any], Callable[[str], ChatRequest]]] = [
    (DirectChatClient, request_to),
    (LiteLLMChatClient, request_to),
    (EmbeddingClient, lambda model: embedding_request(model, "A baker.")),
]


@contextmanager
def serve_elsewhere(
    status: int, place: str = "http://user:secret@{0}{1}?signature=secret"
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield a server that redirects, the one behind it, and what the first was asked."""
    asked = list[str]()

    class Target(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            send_json(self, 405, {"detail": "Method Not Allowed"})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            send_json(self, 401, {"error": {"message": "no key"}})

    with serve_http(Target) as target:

        class Moved(Quiet, BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_HEAD()

            def location(self, target: str) -> str:
                return place.format(target.removeprefix("http://"), self.path)

            def do_HEAD(self) -> None:
                asked.append(f"{self.command} {self.headers.get('Authorization', 'no key')}")
                self.send_response(status)
                self.send_header("Location", self.location(target))
                self.send_header("Content-Length", "0")
                self.end_headers()

        with serve_http(Moved) as moved:
            yield moved, target, asked


async def fail(client: Any, request: ChatRequest, times: int) -> list[CallError]:  # noqa: ANN401 - any client
    errors = []
    for _ in range(times):
        with pytest.raises(CallError) as raised:
            await client.complete(request)
        errors.append(raised.value)
    await client.close()
    return errors


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(("client", "request_of"), CLIENTS, ids=["direct", "litellm", "embedding"])
def test_a_redirect_is_named_with_the_address_to_set(
    client: Callable[..., Any], request_of: Callable[[str], ChatRequest], status: int
) -> None:
    with serve_elsewhere(status) as (moved, target, asked):
        opened = client(api_base=f"{moved}/v1/", api_key=KEY, timeout=30)
        errors = asyncio.run(fail(opened, request_of("openai/served"), 2))
    for error in errors:
        assert error.kind is CallErrorKind.FATAL
        assert "secret" not in str(error)
        assert str(error).startswith(
            f"{moved}/v1 sends calls on to {target}/v1: set api_base to that (it said: HTTP 40"
        )
    assert asked == [f"POST Bearer {KEY}", "HEAD no key", f"POST Bearer {KEY}"]


def test_calls_that_fail_together_are_all_named() -> None:
    """The first error ends the run."""

    async def fail_together(client: DirectChatClient) -> list[BaseException | None]:
        calls = [client.complete(request_to("openai/served")) for _ in range(4)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        await client.close()
        return [error for error in errors if isinstance(error, BaseException)]

    with serve_elsewhere(307) as (moved, target, _):
        client = DirectChatClient(api_base=f"{moved}/v1", api_key=KEY)
        errors = asyncio.run(fail_together(client))
    assert len(errors) == 4
    assert all(f"sends calls on to {target}/v1: set" in str(error) for error in errors)


@pytest.mark.parametrize("place", ["https://sso.corp/login", "http://[::1/v1", "", "{1}"])
def test_a_redirect_to_another_page_is_not_the_address_to_set(place: str) -> None:
    with serve_elsewhere(307, place) as (moved, _, _):
        client = DirectChatClient(api_base=f"{moved}/v1", api_key=KEY, timeout=5)
        [error] = asyncio.run(fail(client, request_to("openai/served"), 1))
    assert "set api_base" not in str(error)


def test_a_wrong_key_at_a_server_that_stays_is_only_that() -> None:
    class Refusing(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            send_json(self, 401, {"error": {"message": "wrong key"}})

    with serve_http(Refusing) as url:
        client = DirectChatClient(api_base=url, api_key=KEY)
        [error] = asyncio.run(fail(client, request_to("openai/served"), 1))
    assert str(error) == "HTTP 401: wrong key"
