"""The contenders: which there are, their virtual environments, and how one is run."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = HERE / "peers"
VENVS = HERE / ".venvs"
INSTALL_SECONDS = 1200
NOTE_LENGTH = 160
PEER_PYTHON = "3.11"
SCRIPT_BLOCK = re.compile(r"^# /// script\n((?:#.*\n)+?)# ///$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Contender:
    """One entry of the tables.

    `is_ours` runs with the project's interpreter; `has_memory` says that it keeps what it buys, so
    that the table of events makes sense for it.
    """

    name: str
    file: str
    has_memory: bool = True
    is_ours: bool = False

    @property
    def path(self) -> Path:
        """The adapter."""
        return PEERS / self.file


CONTENDERS = (
    # peers/ours.py drives persona_pipeline.llm on the adapters' command line; skipped without it.
    Contender("ours", "ours.py", is_ours=True),
    Contender("aiohttp", "bare_aiohttp.py", has_memory=False),
    Contender("litellm", "litellm_acompletion.py", has_memory=False),
    Contender("litellm-router", "litellm_router.py", has_memory=False),
    Contender("data-designer", "nemo_data_designer.py"),
    Contender("curator", "bespoke_curator.py"),
    Contender("distilabel", "argilla_distilabel.py"),
    Contender("datatrove", "hf_datatrove.py"),
)


class UnavailableError(Exception):
    """A contender cannot be run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run of an adapter."""

    rows: int
    concurrency: int
    url: str
    work: Path
    prompts: Path
    second_prompt: str | None = None

    def arguments(self) -> list[str]:
        """The adapters' command line."""
        pairs = {
            "--rows": self.rows,
            "--concurrency": self.concurrency,
            "--url": self.url,
            "--work": self.work,
            "--prompts": self.prompts,
        }
        if self.second_prompt:
            pairs["--second-prompt"] = self.second_prompt
        return [str(part) for pair in pairs.items() for part in pair]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: `ok`, `failed` or `hung`; the adapter's report when there is one."""

    status: str
    seconds: float
    report: dict[str, Any] = field(default_factory=dict)
    last_words: str = ""


def requirements(contender: Contender) -> list[str]:
    """The pinned requirement lines of the adapter's script block (PEP 723)."""
    block = SCRIPT_BLOCK.search(contender.path.read_text())
    if block is None:
        message = f"{contender.path} has no '# /// script' block with its dependencies"
        raise UnavailableError(message)
    text = "\n".join(line.removeprefix("#").strip() for line in block[1].splitlines())
    return list(tomllib.loads(text)["dependencies"])


def find_interpreter(contender: Contender) -> Path:
    """The interpreter of a contender; a peer's environment is made on first use."""
    if not contender.path.exists():
        message = f"{contender.path.relative_to(HERE.parent)} does not exist"
        raise UnavailableError(message)
    if contender.is_ours:
        return Path(sys.executable)
    folder = VENVS / contender.path.stem
    wanted = "\n".join(requirements(contender))
    marker = folder / "installed.txt"
    if not marker.exists() or marker.read_text() != wanted:
        print(f"installing {contender.name} into {folder} ...", file=sys.stderr)
        install(folder, requirements(contender))
        marker.write_text(wanted)
    return folder / "bin" / "python"


def install(folder: Path, packages: list[str]) -> None:
    """Make a fresh environment with these packages."""
    python = folder / "bin" / "python"
    run_uv(["venv", "--quiet", "--clear", "--python", PEER_PYTHON, str(folder)])
    run_uv(["pip", "install", "--quiet", "--python", str(python), *packages])


def run_uv(arguments: list[str]) -> None:
    """Run uv; what it complains about becomes the reason for skipping."""
    try:
        subprocess.run(  # noqa: S603 - arguments of our own
            ["uv", *arguments],  # noqa: S607 - the uv that runs this
            check=True,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except FileNotFoundError as error:
        message = "uv is not on the PATH"
        raise UnavailableError(message) from error
    except subprocess.TimeoutExpired as error:
        message = f"the installation took longer than {INSTALL_SECONDS} s"
        raise UnavailableError(message) from error
    except subprocess.CalledProcessError as error:
        message = "cannot be installed: " + " ".join(error.stderr.split())[:300]
        raise UnavailableError(message) from error


class Run:
    """A started adapter in a process group of its own, its output in the work folder."""

    def __init__(self, contender: Contender, task: Task) -> None:
        """Start the adapter."""
        task.work.mkdir(parents=True, exist_ok=True)
        self.log = task.work / "adapter.log"
        self.started_at = time.monotonic()
        command = [str(find_interpreter(contender)), str(contender.path), *task.arguments()]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - an adapter of ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=task.work,
                env=os.environ | {"HF_HOME": str(task.work / "huggingface")},
                start_new_session=True,
            )

    def is_running(self) -> bool:
        """Whether the adapter itself still runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill -9 the adapter and all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self, limit_s: float) -> Outcome:
        """Wait for the end, at most until `limit_s` after the start."""
        try:
            code = self.process.wait(max(self.started_at + limit_s - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            code = None
        seconds = time.monotonic() - self.started_at
        self.kill()
        if code is None:
            return Outcome("hung", seconds, last_words=self.last_words())
        report = next(reversed(list(self.reports())), None)
        if code or report is None:
            return Outcome("failed", seconds, last_words=self.last_words())
        return Outcome("ok", seconds, report)

    def reports(self) -> Iterator[dict[str, Any]]:
        """The lines of the log that are reports."""
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith('{"rows_done"'):
                yield json.loads(line)

    def last_words(self) -> str:
        """The last line of the log that has words, shortened."""
        lines = self.log.read_text(errors="replace").split("\n")
        words = [line.strip() for line in lines if any(map(str.isalpha, line))]
        return words[-1][:NOTE_LENGTH] if words else ""


def run_contender(contender: Contender, task: Task, limit_s: float) -> Outcome:
    """Run an adapter to its end."""
    return Run(contender, task).wait(limit_s)
