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
from tests.support.http_server import send_json, serve_http

KEY = "a-long-key"
CLIENTS: list[tuple[Callable[..., Any], Callable[[str], ChatRequest]]] = [
    (DirectChatClient, request_to),
    (LiteLLMChatClient, request_to),
    (EmbeddingClient, lambda model: embedding_request(model, "A baker.")),
]


@contextmanager
def serve_elsewhere(status: int) -> Iterator[tuple[str, str, list[str]]]:
    """Yield a server that redirects, the one behind it, and what the first was asked."""
    asked = list[str]()

    class Target(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            send_json(self, 405, {"detail": "Method Not Allowed"})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            send_json(self, 401, {"error": {"message": "no key"}})

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with serve_http(Target) as target:

        class Moved(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_HEAD()

            def do_HEAD(self) -> None:
                asked.append(f"{self.command} {self.headers.get('Authorization', 'no key')}")
                self.send_response(status)
                self.send_header("Location", f"{target}{self.path}?signature=secret")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Stay silent."""

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
    path = "embeddings" if client is EmbeddingClient else "chat/completions"
    for error in errors:
        assert error.kind is CallErrorKind.FATAL
        expected = f"{moved}/v1 sends calls on to {target}/v1/{path}: set api_base to {target}/v1"
        assert str(error) == expected
    assert asked == [f"POST Bearer {KEY}", "HEAD no key", f"POST Bearer {KEY}"]


def test_a_wrong_key_at_a_server_that_stays_is_only_that() -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            send_json(self, 401, {"error": {"message": "wrong key"}})

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with serve_http(Refusing) as url:
        client = DirectChatClient(api_base=url, api_key=KEY)
        [error] = asyncio.run(fail(client, request_to("openai/served"), 1))
    assert str(error) == "HTTP 401: wrong key"
