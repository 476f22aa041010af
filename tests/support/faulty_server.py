"""Serve scripted replies as an OpenAI-compatible server, faults included."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.http_server import Quiet, serve_http

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 2},
}


@dataclass(frozen=True, slots=True)
class Reply:
    """Describe one HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    """reset: the connection breaks before the answer; cut: within it; hang: no answer ever
    comes."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Keep one request as the server received it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    port: int
    """The client's port: the same for all requests on one connection."""


Answering = Callable[[list[str]], Reply]
"""Returns the reply to a request for the vectors of these texts."""


@dataclass(slots=True)
class FaultyServer:
    """Give the replies in turn, repeat the last one, and keep the requests."""

    replies: list[Reply]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)
    answer: Answering | None = None


def chat(content: object, finish_reason: str | None = "stop", **message: object) -> Reply:
    """Return a completion."""
    answer = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "finish_reason": finish_reason, "message": answer}
    return _json(200, _completion([choice]))


def no_choices() -> Reply:
    """Return a completion without choices."""
    return _json(200, _completion([]))


def vectors(*rows: object) -> Reply:
    """Return embeddings: lists of numbers, or what a broken server sends in their place."""
    data = [
        {"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)
    ]
    return _json(200, {"object": "list", "model": "m", "data": data, "usage": USAGE})


def refuse(status: int, message: str = "no", **headers: str) -> Reply:
    """Return an error in OpenAI's form."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return _json(status, {"error": {"message": message, "type": "t", "code": "c"}}, named)


@contextmanager
def serve(*replies: Reply, keeps_alive: bool = False) -> Iterator[FaultyServer]:
    """Serve on a free port while the block runs."""
    served = FaultyServer(list(replies))
    handler = _handler(served)
    handler.protocol_version = "HTTP/1.1" if keeps_alive else "HTTP/1.0"
    with serve_http(handler) as address:
        served.url = f"{address}/v1"
        try:
            yield served
        finally:
            served.is_over.set()


@contextmanager
def serve_texts(answer: Answering) -> Iterator[FaultyServer]:
    """Answer each request by its list of texts while the block runs."""
    with serve(Reply(500, b"")) as served:
        served.answer = answer
        yield served


def _handler(served: FaultyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.bodies.append(body)
            served.keys.append(self.headers.get("Authorization", ""))
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.sent.append(Sent(self.command, self.path, headers, body, self.client_address[1]))
            if served.answer:
                self._answer(served.answer(body["input"]))
                return
            reply = served.replies.pop(0) if len(served.replies) > 1 else served.replies[0]
            if reply.fault == "hang":
                served.is_over.wait(30)
            elif reply.fault == "reset":
                at_once = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                self.connection.close()
            else:
                self._answer(reply)

        def _answer(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            missing = 10 if reply.fault == "cut" else 0
            self.send_header("Content-Length", str(len(reply.body) + missing))
            self.end_headers()
            self.wfile.write(reply.body)

    return Handler


def completion(choices: list[dict[str, Any]], usage: object = USAGE) -> Reply:
    """Return a completion with these choices and this usage."""
    return _json(200, _completion(choices, usage))


def _completion(choices: list[dict[str, Any]], usage: object = USAGE) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "service_tier": "default",
        "choices": choices,
        "usage": usage,
    }


def _json(status: int, body: object, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(body).encode(), headers or {})
