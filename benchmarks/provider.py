"""Start, configure and read the mock provider that the contenders call."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START_SECONDS = 15
OWN_MOCK = Path(__file__).with_name("mock_server.py")
CALM = {
    "p_429": 0.0,
    "p_500": 0.0,
    "p_reset": 0.0,
    "p_badcontent": 0.0,
    "p_length": 0.0,
    "p_empty": 0.0,
    "p_refusal": 0.0,
    "max_concurrency": 0,
}


class Provider:
    """Control a running mock by its address."""

    def __init__(self, base: str) -> None:
        """Take the base address without a trailing /v1."""
        self.base = base
        self.url = f"{base}/v1"

    def stats(self) -> dict[str, Any]:
        """Return the mock's counters."""
        return self._get("/stats")

    def billed(self) -> int:
        """Return the completions since the last reset, which a provider would charge for."""
        return int(self.stats()["billed_total"])

    def configure(self, **changes: float | str) -> None:
        """Change options of the running mock."""
        self._post("/config", changes)

    def calm(self, latency_ms: int) -> None:
        """Set the latency, no faults, and all counters to zero."""
        self.configure(**CALM, latency=f"fixed:{latency_ms}")
        self.reset()

    def reset(self) -> None:
        """Reset all counters."""
        self._post("/reset", {})

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.base + path, timeout=10) as answer:  # noqa: S310 - the mock on this machine
            return dict(json.load(answer))

    def _post(self, path: str, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, data, headers)  # noqa: S310 - the mock on this machine
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the mock on this machine
            answer.read()


@contextlib.contextmanager
def running_provider(url: str | None, script: Path | None, latency_ms: int) -> Iterator[Provider]:
    """Yield the mock at `url`, or a new process of `script` that ends with the block."""
    if url:
        provider = Provider(url.rstrip("/").removesuffix("/v1"))
        provider.calm(latency_ms)
        yield provider
        return
    port = free_port()
    command = [sys.executable, str(script or OWN_MOCK), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - the mock of ours
    try:
        provider = Provider(f"http://127.0.0.1:{port}")
        wait_until_up(provider, process)
        provider.calm(latency_ms)
        yield provider
    finally:
        process.kill()
        process.wait()


def wait_until_up(provider: Provider, process: subprocess.Popen[bytes]) -> None:
    """Poll until the mock answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            provider.stats()
            return
        time.sleep(0.05)
    message = f"the mock provider {process.args} did not start within {START_SECONDS} s"
    raise RuntimeError(message)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
