"""Serve a model that refuses some parameters, as aliases and small servers do."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.http_server import Quiet, read_json, send_json, serve_http

Body = dict[str, Any]
Answer = Callable[[Body], tuple[int, Body]]
"""Returns the status and the body for a request's body."""


@dataclass(slots=True)
class PickyServer:
    """Keep what was asked, and how often the model answered."""

    url: str = ""
    bodies: list[Body] = field(default_factory=list)
    answered: int = 0


def completion(content: str | None, finish_reason: str = "stop", **message: object) -> Body:
    """Return a completion's body, with the usage of 10 tokens in and 5 out."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": finish_reason,
    }
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}


def refusal(message: str, **more: object) -> Body:
    """Return an error's body in OpenAI's form."""
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


@contextmanager
def serve_picky(answer: Answer) -> Iterator[PickyServer]:
    """Serve on a free port while the block runs."""
    served, lock = PickyServer(), threading.Lock()

    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = read_json(self)
            status, answered = answer(body)
            with lock:
                served.bodies.append(body)
                served.answered += status == 200
            send_json(self, status, answered)

    with serve_http(Handler) as address:
        served.url = f"{address}/v1"
        yield served
