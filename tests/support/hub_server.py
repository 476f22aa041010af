"""Serve a small Hugging Face Hub: DuckDB reaches huggingface.co by a proxy, which leads here."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import pytest
import trustme

from tests.support.http_server import Quiet, serve_http

HOST = "huggingface.co"


@contextmanager
def serve_hub(
    dataset: str, files: Mapping[str, bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Serve the files of one data set; yield the paths that were asked for.

    Args:
        dataset: owner/name.
        files: content by path.
        folder: where the certificate is written.
        monkeypatch: sets the variables by which DuckDB finds this server.
    """
    asked = list[str]()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    with (
        serve_http(hub_handler(dataset, files, asked), context) as hub,
        serve_http(proxy_handler(int(hub.rpartition(":")[2]))) as proxy,
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
        yield asked


def hub_handler(
    dataset: str, files: Mapping[str, bytes], asked: list[str]
) -> type[BaseHTTPRequestHandler]:
    """Return what answers for the Hub, and notes what it was asked."""

    class Hub(Quiet, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(self.path)
            asked.append(path)
            _, is_listing, below = path.partition(f"/api/datasets/{dataset}/tree/main")
            if is_listing:
                data = list_folder(files, below.strip("/"))
            else:
                data = files.get(path.removeprefix(f"/datasets/{dataset}/resolve/main/"))
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            if with_body:
                self.wfile.write(data or b"")

    return Hub


def proxy_handler(port: int) -> type[BaseHTTPRequestHandler]:
    """Return a proxy that leads every tunnel to this port."""

    class Proxy(Quiet, BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as hub:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=pump, args=(hub, self.connection))
                back.start()
                pump(self.connection, hub)
                back.join()

    return Proxy


def list_folder(files: Mapping[str, bytes], folder: str) -> bytes | None:
    """Return what the Hub lists of one folder: its files, and its folders."""
    prefix = f"{folder}/" if folder else ""
    below = {path: data for path, data in files.items() if path.startswith(prefix)}
    folders = {
        path.removeprefix(prefix).split("/")[0] for path in below if "/" in path[len(prefix) :]
    }
    entries = [
        *({"type": "directory", "oid": "0", "size": 0, "path": prefix + name} for name in folders),
        *(
            {"type": "file", "oid": "0", "size": len(data), "path": path}
            for path, data in below.items()
            if "/" not in path[len(prefix) :]
        ),
    ]
    return json.dumps(entries, separators=(",", ":")).encode() if entries else None


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until one side closes."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
