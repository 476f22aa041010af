"""Serve files and batches as OpenAI does, and count what was billed."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from persona_pipeline.llm.clients.fake import instance_of_schema
from persona_pipeline.llm.requests import ChatRequest, Sampling
from tests.support.http_server import Quiet, serve_http

Json = dict[str, Any]


def answer_schema(body: Json, _before: int) -> str | int:
    """Return the smallest answer of the request's schema."""
    schema = body["response_format"]["json_schema"]["schema"]
    return instance_of_schema(ChatRequest("served", tuple(body["messages"]), schema, Sampling()))


@dataclass
class BatchServer:
    """Script the server's behaviour, and keep what it was asked.

    `answer`: returns the content, or the status of an error, for a request and how often it was
    answered before. `billed`: answers by custom id. `prompts`: answers by messages.
    """

    answer: Callable[[Json, int], str | int] = answer_schema
    delay: float = 0.0
    expires_after: int | None = None
    """Requests that the next batch answers before it expires."""
    refuses_batches: list[Json] = field(default_factory=list)
    """Validation errors, one for each of the next batches."""
    troubles: list[int] = field(default_factory=list)
    """Error statuses of the next answers about batches, before real answers."""
    upload_troubles: list[int] = field(default_factory=list)
    """Error statuses of the next answers about files."""
    loses_answer: bool = False
    """Whether the next batch is created without an answer to the client."""
    key: str | None = None
    page: int = 100
    url: str = ""
    billed: Counter[str] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, Json] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_asked: threading.Event = field(default_factory=threading.Event)
    """Set once there is a batch."""

    @property
    def billed_twice(self) -> int:
        return sum(count - 1 for count in self.billed.values())

    @property
    def bodies(self) -> list[Json]:
        """Every request that arrived in a batch."""
        return [line["body"] for batch in self.batches.values() for line in self._lines(batch)]

    def finish(self) -> None:
        """Answer all batches now, and later ones at once."""
        with self.lock:
            self.delay = 0.0
            for batch in self.batches.values():
                batch["_due"] = 0.0

    def put(self, data: bytes) -> Json:
        name = f"file-{len(self.files)}"
        self.files[name] = data
        return {
            "id": name,
            "object": "file",
            "bytes": len(data),
            "created_at": int(time.time()),
            "filename": "f.jsonl",
            "purpose": "batch",
            "status": "processed",
        }

    def create(self, asked: Json) -> Json:
        name = f"batch_{len(self.batches)}"
        problem = self.refuses_batches.pop(0) if self.refuses_batches else None
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"],
            "completion_window": asked["completion_window"],
            "created_at": int(time.time()),
            "metadata": asked["metadata"],
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            "_due": time.monotonic() + self.delay,
            "_problem": problem,
            "_limit": self.expires_after,
        }
        self.expires_after = None
        self.is_asked.set()
        return self.view(name)

    def view(self, name: str) -> Json:
        batch = self.batches[name]
        if batch["status"] == "in_progress" and time.monotonic() >= batch["_due"]:
            self._end(batch)
        return {key: value for key, value in batch.items() if key[0] != "_"}

    def listed(self, after: str | None) -> Json:
        """Return one page of batches, newest first."""
        names = list(reversed(self.batches))
        begin = names.index(after) + 1 if after else 0
        shown = [self.view(name) for name in names[begin : begin + self.page]]
        return {"object": "list", "data": shown, "has_more": begin + self.page < len(names)}

    def _lines(self, batch: Json) -> list[Json]:
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    def _end(self, batch: Json) -> None:
        if batch["_problem"]:
            batch["status"] = "failed"
            batch["errors"] = {"object": "list", "data": [batch["_problem"]]}
            return
        lines = self._lines(batch)
        limit = len(lines) if batch["_limit"] is None else batch["_limit"]
        result = [self._answer(line) for line in lines[:limit]] + [
            _line(line, error={"code": "batch_expired", "message": "not in time"})
            for line in lines[limit:]
        ]
        good = [line for line in result if (line["response"] or {}).get("status_code") == 200]
        bad = [line for line in result if line not in good]
        for name, group in (("output_file_id", good), ("error_file_id", bad)):
            if group:
                batch[name] = self.put("\n".join(map(json.dumps, group)).encode())["id"]
        batch["status"] = "completed" if limit >= len(lines) else "expired"

    def _answer(self, line: Json) -> Json:
        prompt = json.dumps(line["body"]["messages"])
        content = self.answer(line["body"], self.prompts[prompt])
        if isinstance(content, int):
            error = {"error": {"message": f"status {content}"}}
            return _line(line, response={"status_code": content, "body": error})
        self.billed[line["custom_id"]] += 1
        self.prompts[prompt] += 1
        message = {"role": "assistant", "content": content}
        body = {
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        }
        return _line(line, response={"status_code": 200, "body": body})


def _line(line: Json, response: Json | None = None, error: Json | None = None) -> Json:
    return {"id": "1", "custom_id": line["custom_id"], "response": response, "error": error}


@contextmanager
def serve_batches(server: BatchServer) -> Iterator[BatchServer]:
    """Serve on a free port while the block runs."""
    with serve_http(_handler(server)) as address:
        server.url = f"{address}/v1"
        yield server


def _handler(server: BatchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            form = self.headers["Content-Type"]
            _respond(server, self, lambda: _post(server, urlsplit(self.path).path, form, data))

        def do_GET(self) -> None:
            _respond(server, self, lambda: _get(server, self.path))

    return Handler


def _post(server: BatchServer, path: str, form: str, data: bytes) -> Json | None:
    if path.endswith("/files"):
        return server.put(_uploaded(form, data))
    asked = json.loads(data)
    if path.endswith("/batch/jobs"):
        batch = {**asked, "input_file_id": asked["input_files"][0], "completion_window": "24h"}
        result = _mistral_job(server.create(batch), asked["model"])
    else:
        result = server.create(asked)
    lost, server.loses_answer = server.loses_answer, False
    return None if lost else result


def _get(server: BatchServer, path: str) -> Json | bytes:
    url = urlsplit(path)
    kind, *rest = url.path.split("/")[2:]
    if kind == "files":
        return server.files[rest[0]]
    if kind == "batch":
        return _mistral_job(server.view(rest[1]))
    if rest:
        return server.view(rest[0])
    return server.listed(parse_qs(url.query).get("after", [None])[0])


def _mistral_job(batch: Json, model: str | None = None) -> Json:
    """Return a batch as Mistral shows it: https://docs.mistral.ai/api/#tag/batch."""
    states = {"in_progress": "RUNNING", "completed": "SUCCESS", "failed": "FAILED"}
    return {
        "id": batch["id"],
        "object": "batch",
        "input_files": [batch["input_file_id"]],
        "endpoint": batch["endpoint"],
        "model": model,
        "metadata": batch["metadata"],
        "status": states.get(batch["status"], "TIMEOUT_EXCEEDED"),
        "created_at": batch["created_at"],
        "total_requests": 1,
        "completed_requests": 1,
        "succeeded_requests": 1,
        "failed_requests": 0,
        "output_file": batch["output_file_id"],
        "error_file": batch["error_file_id"],
        "errors": batch["errors"]["data"] if batch["errors"] else [],
    }


def _respond(
    server: BatchServer,
    handler: BaseHTTPRequestHandler,
    work: Callable[[], Json | bytes | None],
) -> None:
    with server.lock:
        server.asked.append(f"{handler.command} {urlsplit(handler.path).path}")
        status = _refusal(server, handler)
        error = {"error": {"message": f"status {status}"}}
        try:
            answer = error if status else work()
        except KeyError:
            status, answer = 404, {"error": {"message": "no such thing"}}
    if answer is None:  # a broken connection
        handler.close_connection = True
        return
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    try:
        handler.send_response(status or 200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
    except (BrokenPipeError, ConnectionResetError):  # the client was killed meanwhile
        handler.close_connection = True


def _refusal(server: BatchServer, handler: BaseHTTPRequestHandler) -> int | None:
    sent = {handler.headers["Authorization"], f"Bearer {handler.headers['api-key']}"}
    if server.key and f"Bearer {server.key}" not in sent:
        return 401
    troubles = server.troubles if "/batch" in handler.path else server.upload_troubles
    return troubles.pop(0) if troubles else None


def _uploaded(content_type: str, data: bytes) -> bytes:
    """Return the file in a form."""
    match = re.search(r'boundary="?([^";]+)', content_type)
    assert match
    for part in data.split(b"--" + match[1].encode())[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return body.removesuffix(b"\r\n")
    raise AssertionError(data)
