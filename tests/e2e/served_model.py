"""An OpenAI-compatible server that answers from the request's schema, and counts what it billed."""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from persona_pipeline.llm.fake import instance_of_schema
from persona_pipeline.llm.requests import ChatRequest, Sampling

EMBEDDING_SIZE = 16


@dataclass
class ServedModel:
    """What the server was asked; `billed` counts answers per distinct prompt."""

    seconds: float = 0.0
    url: str = ""
    billed: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    max_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def billed_twice(self) -> int:
        return sum(count - 1 for count in self.billed.values())


@contextmanager
def serve_model(seconds: float = 0.0) -> Iterator[ServedModel]:
    model = ServedModel(seconds)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(model))
    server.daemon_threads = True
    model.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(model: ServedModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = _embeddings(body) if "input" in body else _completion(model, body)
            data = json.dumps(answer).encode()
            try:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):  # the client was killed meanwhile
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _completion(model: ServedModel, body: dict[str, Any]) -> dict[str, Any]:
    with model.lock:
        model.in_flight += 1
        model.max_in_flight = max(model.max_in_flight, model.in_flight)
        model.billed[json.dumps(body["messages"], sort_keys=True)] += 1
    time.sleep(model.seconds)
    with model.lock:
        model.in_flight -= 1
    schema = body["response_format"]["json_schema"]["schema"]
    request = ChatRequest("served", tuple(body["messages"]), schema, Sampling())
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": instance_of_schema(request)},
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    return {
        "object": "list",
        "model": body["model"],
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(text)}
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": len(texts), "total_tokens": len(texts)},
    }


def _vector(text: str) -> list[float]:
    digest = hashlib.blake2b(text.encode(), digest_size=EMBEDDING_SIZE).digest()
    return [byte - 127.5 for byte in digest]
