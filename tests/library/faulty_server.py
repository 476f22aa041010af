"""An OpenAI-compatible server that gives the scripted replies, faults included."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 2},
}


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class FaultyServer:
    """Gives its replies in turn, the last one from then on; keeps what it was sent."""

    replies: list[Reply]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def chat(content: str | None, finish_reason: str = "stop", **message: str) -> Reply:
    """A completion."""
    turn = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "finish_reason": finish_reason, "message": turn}
    return _json(200, _completion([choice]))


def no_choices() -> Reply:
    """A completion with nothing in it."""
    return _json(200, _completion([]))


def vectors(*rows: list[float]) -> Reply:
    """Embeddings."""
    data = [
        {"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)
    ]
    return _json(200, {"object": "list", "model": "m", "data": data, "usage": USAGE})


def refuse(status: int, message: str = "no", **headers: str) -> Reply:
    """An error, as OpenAI words it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return _json(status, {"error": {"message": message, "type": "t", "code": "c"}}, named)


@contextmanager
def serve(*replies: Reply) -> Iterator[FaultyServer]:
    """The server on a free port, for as long as the block runs."""
    served = FaultyServer(list(replies))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(served: FaultyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            served.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            served.keys.append(self.headers.get("Authorization", ""))
            reply = served.replies.pop(0) if len(served.replies) > 1 else served.replies[0]
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _completion(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": choices,
        "usage": USAGE,
    }


def _json(status: int, body: object, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(body).encode(), headers or {})
