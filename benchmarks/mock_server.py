"""A small OpenAI-compatible provider for the benchmarks: deterministic, counted, with faults.

    python benchmarks/mock_server.py --port 8401 --latency fixed:200 --p-429 0.05

`POST .../chat/completions` answers free text, an instance of a `json_schema` response format, or
the arguments of a forced tool call. `GET /stats`, `POST /reset` and `POST /config {"p_429": 0.3}`
serve the benchmark. Faults are drawn from a hash of (prompt, attempt), so the order in which
requests arrive does not matter; an answer contains the digest of its prompt. A completion is billed
when it is generated, whether or not the client is still there to read it.
"""

import argparse
import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, cast

FAULTS = ("429", "500", "reset", "badcontent", "length", "empty", "refusal")
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests"}
WORDS = [
    "a",
    "patient",
    "teacher",
    "of",
    "river",
    "ecology",
    "who",
    "measures",
    "the",
    "old",
    "harbour",
    "every",
    "spring",
    "and",
    "writes",
    "careful",
    "letters",
    "about",
    "tides",
    "reeds",
    "herons",
    "and",
    "the",
    "people",
    "who",
    "repair",
    "the",
    "wooden",
    "boats",
]
TOO_MANY_REQUESTS = 429
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Ledger:
    """Count what was received, generated and delivered since the last reset."""

    received_total: int = 0
    billed_total: int = 0
    delivered_total: int = 0
    attempts: dict[bytes, int] = field(default_factory=dict)
    billed_prompts: set[bytes] = field(default_factory=set)
    in_flight: int = 0

    def stats(self) -> dict[str, int]:
        """Return the counters as `/stats` shows them."""
        unique = len(self.billed_prompts)
        return {
            "received_total": self.received_total,
            "billed_total": self.billed_total,
            "billed_unique": unique,
            "billed_twice": self.billed_total - unique,
            "delivered_total": self.delivered_total,
            "in_flight": self.in_flight,
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold one planned answer. Status 0 resets the connection."""

    status: int
    body: bytes
    delay_s: float
    prompt: bytes
    is_billed: bool = False
    headers: str = ""


class Provider:
    """Decide what each request gets. This class knows nothing about sockets."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Take the command line's options as the starting configuration."""
        self.options = options
        self.ledger = Ledger()

    def reset(self) -> dict[str, int]:
        """Reset all counters. Requests in flight stay in flight."""
        self.ledger = Ledger(in_flight=self.ledger.in_flight)
        return self.ledger.stats()

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Change options while running. An unknown option is an error."""
        unknown = sorted(set(changes) - set(self.options))
        if unknown:
            message = f"unknown options {unknown}; known: {sorted(self.options)}"
            raise KeyError(message)
        self.options.update(changes)
        return self.options

    def plan(self, request: dict[str, Any]) -> Reply:
        """Choose the answer to one chat request and count it as received."""
        ledger, options = self.ledger, self.options
        prompt = blake2b(
            json.dumps([request.get("model"), request.get("messages")]).encode(), digest_size=16
        ).digest()
        attempt = ledger.attempts.get(prompt, 0)
        ledger.attempts[prompt] = attempt + 1
        ledger.received_total += 1
        limit = options["max_concurrency"]
        if limit and ledger.in_flight >= limit:
            return self._too_many(prompt)
        fault = self._fault(prompt, attempt)
        delay_s = float(options["latency"].partition(":")[2]) / 1e3
        if fault == "429":
            return self._too_many(prompt)
        if fault == "500":
            body = error_body("The server had an error", "server_error")
            return Reply(500, body, delay_s, prompt)
        if fault == "reset":
            return Reply(0, b"", delay_s / 2, prompt)
        body = completion(request, prompt, attempt, fault)
        return Reply(200, body, delay_s, prompt, is_billed=True)

    def _too_many(self, prompt: bytes) -> Reply:
        body = error_body("Rate limit reached", "rate_limit_exceeded")
        header = f"retry-after: {self.options['retry_after']:g}\r\n"
        return Reply(TOO_MANY_REQUESTS, body, 0.005, prompt, headers=header)

    def _fault(self, prompt: bytes, attempt: int) -> str | None:
        digest = blake2b(b"%d" % attempt, key=prompt, digest_size=8).digest()
        left = int.from_bytes(digest) / 2**64
        for name in FAULTS:
            left -= self.options["p_" + name]
            if left < 0:
                return name
        return None


def error_body(message: str, kind: str) -> bytes:
    """Return an error in OpenAI's form."""
    error = {"message": message, "type": kind, "param": None, "code": kind}
    return json.dumps({"error": error}).encode()


def completion(request: dict[str, Any], prompt: bytes, attempt: int, fault: str | None) -> bytes:
    """Return a chat completion as JSON, spoiled by `fault` if there is one."""
    digest = prompt.hex()
    tool = forced_tool(request)
    content: str | None = answer_text(request, tool, digest)
    finish, refusal = "stop", None
    if fault in ("length", "badcontent"):
        content = (content or "")[: len(content or "") // 2]
        finish = "length" if fault == "length" else "stop"
    elif fault == "empty":
        content = ""
    elif fault == "refusal":
        content, refusal = None, "I'm sorry, I can't help with that."
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal}
    if tool is not None and content:
        call = {"name": tool["name"], "arguments": content}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": call}]
        message["content"] = None
    usage = {"prompt_tokens": 420, "completion_tokens": 40, "total_tokens": 460}
    answer = {
        "id": f"chatcmpl-{digest[:12]}-{attempt}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": request.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": usage,
    }
    return json.dumps(answer).encode()


def forced_tool(request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the function that the request demands to be called, if any."""
    choice = request.get("tool_choice")
    if not isinstance(choice, dict):
        return None
    name = choice["function"]["name"]
    return next(t["function"] for t in request["tools"] if t["function"]["name"] == name)


def answer_text(request: dict[str, Any], tool: dict[str, Any] | None, digest: str) -> str:
    """Return the content: an instance of the wanted schema, or free text."""
    response_format = request.get("response_format") or {}
    if tool is not None:
        schema = tool.get("parameters") or {}
    elif response_format.get("type") == "json_schema":
        schema = response_format["json_schema"].get("schema") or {}
    else:
        return free_text(digest)
    return json.dumps(instance(schema, schema, digest))


def free_text(digest: str) -> str:
    """Return some words that differ by prompt, then the prompt's digest."""
    start = int(digest[:4], 16) % len(WORDS)
    return " ".join(WORDS[start:] + WORDS[:start]) + f" ({digest})"


def instance(schema: dict[str, Any], root: dict[str, Any], digest: str) -> object:
    """Return a value that satisfies the subset of JSON Schema which providers accept."""
    if "$ref" in schema:
        return instance(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, digest)
    if "enum" in schema:
        return schema["enum"][int(digest[:2], 16) % len(schema["enum"])]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return instance(schema[key][0], root, digest)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: instance(part, root, digest) for name, part in properties.items()}
    if kind == "array":
        items = schema.get("items") or {}
        return [instance(items, root, digest) for _ in range(schema.get("minItems", 1))]
    plain = {"integer": 3, "number": 0.5, "boolean": True, "null": None}
    return plain[kind] if kind in plain else free_text(digest)


class Connection(asyncio.Protocol):
    """Serve one client connection, one request after the other."""

    def __init__(self, provider: Provider) -> None:
        """Serve `provider`."""
        self.provider = provider
        self.transport: asyncio.Transport
        self.buffer = b""
        self.is_busy = False
        self.closes_after_reply = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Collect bytes until a request is complete."""
        self.buffer += data
        if not self.is_busy:
            self._take_request()

    def _take_request(self) -> None:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        length = content_length(head)
        if len(self.buffer) < end + 4 + length:
            return
        body = self.buffer[end + 4 : end + 4 + length]
        line = self.buffer[: self.buffer.find(b"\r\n")].decode()
        self.buffer = self.buffer[end + 4 + length :]
        self.closes_after_reply = b"connection: close" in head
        self.is_busy = True
        method, path, _ = line.split(" ", 2)
        self._route(method, path.partition("?")[0].rstrip("/"), body)

    def _route(self, method: str, path: str, body: bytes) -> None:
        if method == "POST" and path.endswith("/chat/completions"):
            self._answer_chat(json.loads(body))
        elif path == "/stats":
            self._send_json(200, self.provider.ledger.stats())
        elif path == "/reset":
            self._send_json(200, self.provider.reset())
        elif path == "/config":
            self._configure(body)
        elif path.endswith("/models"):
            self._send_json(200, {"object": "list", "data": [{"id": "mock", "object": "model"}]})
        else:
            self._send_json(404, {"error": {"message": f"no {path} here"}})

    def _configure(self, body: bytes) -> None:
        try:
            self._send_json(200, self.provider.configure(json.loads(body or b"{}")))
        except KeyError as error:
            self._send_json(400, {"error": {"message": error.args[0]}})

    def _answer_chat(self, request: dict[str, Any]) -> None:
        reply = self.provider.plan(request)
        ledger = self.provider.ledger
        ledger.in_flight += reply.status != TOO_MANY_REQUESTS
        loop = asyncio.get_running_loop()
        loop.call_later(reply.delay_s, self._finish_chat, reply, ledger)

    def _finish_chat(self, reply: Reply, ledger: Ledger) -> None:
        self.provider.ledger.in_flight -= reply.status != TOO_MANY_REQUESTS
        if reply.is_billed:
            ledger.billed_total += 1
            ledger.billed_prompts.add(reply.prompt)
            ledger.delivered_total += not self.transport.is_closing()
        if reply.status:
            self._send(reply.status, reply.body, reply.headers)
        else:
            self._abort()

    def _abort(self) -> None:
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.transport.abort()

    def _send_json(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value).encode(), "")

    def _send(self, status: int, body: bytes, headers: str) -> None:
        if self.transport.is_closing():
            return
        connection = "close" if self.closes_after_reply else "keep-alive"
        head = (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"connection: {connection}\r\n{headers}\r\n"
        )
        self.transport.write(head.encode() + body)
        self.is_busy = False
        if self.closes_after_reply:
            self.transport.close()
        elif self.buffer:
            self._take_request()


def content_length(head: bytes) -> int:
    """Return the body's length according to the lower-cased header block."""
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    return int(head[at + 17 :].split(b"\r\n", 1)[0])


async def serve(provider: Provider, port: int) -> None:
    """Listen on loopback until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(provider), "127.0.0.1", port, backlog=4096)
    print(f"mock provider on port {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Parse the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8401)
    parser.add_argument("--latency", default="fixed:200", help="fixed:MS")
    for name in FAULTS:
        parser.add_argument(f"--p-{name}", type=float, default=0.0)
    parser.add_argument("--max-concurrency", type=int, default=0, help="more than this get a 429")
    parser.add_argument("--retry-after", type=float, default=1.0, help="seconds, with a 429")
    options = vars(parser.parse_args())
    port = options.pop("port")
    asyncio.run(serve(Provider(options), port))


if __name__ == "__main__":
    main()
