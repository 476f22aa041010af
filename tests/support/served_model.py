"""Serve answers that fit the request's schema in OpenAI's form, and count what was billed."""

import hashlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from persona_pipeline.llm.clients.fake import instance_of_schema
from persona_pipeline.llm.requests import ChatRequest, Sampling
from tests.support.http_server import Quiet, read_json, send_json, serve_http

EMBEDDING_SIZE = 16
CHARS_PER_TOKEN = 4


@dataclass
class ServedModel:
    """What the server was asked; `billed` counts answers per distinct prompt.

    `refusal`: while it is set, every request gets this status and message, and nothing is billed;
    `{key}` in the message is the API key of the request.
    """

    seconds: float = 0.0
    url: str = ""
    refusal: tuple[int, str] | None = None
    billed: Counter[str] = field(default_factory=Counter)
    embedded: Counter[str] = field(default_factory=Counter)
    received: int = 0
    tokens: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def billed_twice(self) -> int:
        return sum(count - 1 for count in self.billed.values())


@contextmanager
def serve_model(seconds: float = 0.0) -> Iterator[ServedModel]:
    model = ServedModel(seconds)
    with serve_http(_handler(model)) as address:
        model.url = f"{address}/v1"
        yield model


def _handler(model: ServedModel) -> type[BaseHTTPRequestHandler]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = read_json(self)
            with model.lock:
                model.received += 1
            refusal = model.refusal
            if refusal:
                status, message = refusal
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                answer: dict[str, Any] = {"error": {"message": message.format(key=key)}}
            else:
                status = 200
                answer = (_embeddings if "input" in body else _completion)(model, body)
            try:
                send_json(self, status, answer)
            except (BrokenPipeError, ConnectionResetError):  # the client was killed meanwhile
                self.close_connection = True

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
    content = instance_of_schema(request)
    chars_in = sum(len(message["content"]) for message in body["messages"])
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": content},
            }
        ],
        "usage": _usage(model, chars_in, len(content)),
    }


def _embeddings(model: ServedModel, body: dict[str, Any]) -> dict[str, Any]:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    with model.lock:
        model.embedded.update(texts)
    return {
        "object": "list",
        "model": body["model"],
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(text)}
            for index, text in enumerate(texts)
        ],
        "usage": _usage(model, CHARS_PER_TOKEN * len(texts), 0),  # alike, whoever travels together
    }


def _usage(model: ServedModel, chars_in: int, chars_out: int) -> dict[str, int]:
    tokens_in, tokens_out = (math.ceil(chars / CHARS_PER_TOKEN) for chars in (chars_in, chars_out))
    with model.lock:
        model.tokens += tokens_in + tokens_out
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }


def _vector(text: str) -> list[float]:
    digest = hashlib.blake2b(text.encode(), digest_size=EMBEDDING_SIZE).digest()
    return [byte - 127.5 for byte in digest]
