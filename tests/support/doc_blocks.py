"""The fenced blocks of a Markdown page, and a folder to run them in, as CONTRIBUTING.md says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from persona_pipeline.cli.main import cli
from persona_pipeline.settings import load_settings
from persona_pipeline.store.store import Store

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?$')
NOT_RUN = re.compile(r"^\s*<!-- not run: (?P<reason>.+) -->$")
SHOWN = {"text"}
RUN = {"shell", "console", "python", "sql", "toml"}
CHECKOUT = ("workspace.yaml", "dagster.yaml")
BASH = shutil.which("bash") or "bash"
COMMAND = "uv run persona-pipeline "
STOPPED_AT_BUDGET = 3


@dataclass(frozen=True)
class Block:
    """A fenced block: `line` is the number of its first fence, from 1."""

    line: int
    language: str
    title: str | None
    text: str
    not_run: str | None


def read_blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page, those inside a list or an admonition too."""
    lines = page.splitlines()
    number = 0
    while number < len(lines):
        if not (fence := FENCE.match(lines[number])):
            number += 1
            continue
        indent, start = fence["indent"], number
        end = next(at for at in range(start + 1, len(lines)) if lines[at] == f"{indent}```")
        body = [line.removeprefix(indent) for line in lines[start + 1 : end]]
        marker = NOT_RUN.match(lines[start - 1]) if start else None
        yield Block(
            start + 1,
            fence["language"],
            fence["title"],
            "\n".join([*body, ""]),
            marker["reason"] if marker else None,
        )
        number = end + 1


class PageFolder:
    """A folder that stands for a checkout, in which the blocks of a page run one after another."""

    def __init__(self, folder: Path) -> None:
        """Make `folder` one that commands take for a checkout."""
        folder.mkdir(exist_ok=True)
        for name in CHECKOUT:
            shutil.copy(ROOT / name, folder)
        self.folder = folder
        self._names: dict[str, object] = {}

    def run(self, block: Block) -> None:
        """Do with a block what its language and title say."""
        if block.not_run:
            return
        if block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "shell":
            for command in filter(None, block.text.splitlines()):
                self.run_command(command)
        elif block.language == "console":
            for command, expected in read_session(block.text):
                printed = self.run_command(command, may_stop=True)
                assert_printed(printed, expected, command)
        elif block.language == "python":
            exec(compile(block.text, f"line {block.line}", "exec"), self._names)  # noqa: S102
        elif block.language == "sql":
            self.bind(block.text)
        elif block.language == "toml":
            self.load(block.text)

    def run_command(self, command: str, *, may_stop: bool = False) -> str:
        """Run a command line; return what it printed, unless that goes to a file.

        Our own commands run in this process, since starting one takes 3 s; those with a pipe do
        not.
        """
        words = shlex.split(command, comments=True)
        if words[0] == "export":
            for name, _, value in (word.partition("=") for word in words[1:]):
                os.environ[name] = value
            return ""
        if not command.startswith(COMMAND) or "|" in words:
            return self._run_other(command)
        *words, target = words if words[-2] == ">" else [*words, ">", ""]
        arguments = words[len(COMMAND.split()) : -1]
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        allowed = {0, STOPPED_AT_BUDGET} if may_stop else {0}
        assert done.exit_code in allowed, f"{command}\n{done.output}"
        if not target:
            return done.output
        (self.folder / target).write_text(done.stdout, encoding="utf-8")
        return ""

    def _run_other(self, command: str) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        command = command.removeprefix("uv run ")
        done = subprocess.run(
            [BASH, "-euc", command],
            cwd=self.folder,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def bind(self, text: str) -> None:
        """Run the queries of a block on an empty database: each returns no rows."""
        database = self.folder / "empty"
        store = Store(database / "pipeline.duckdb", database / "published.duckdb")
        store.migrate()
        for query in filter(None, map(str.strip, text.split(";"))):
            assert store.query(query).is_empty() or "marts.dictionary" in query, query

    def load(self, text: str) -> None:
        """Load the settings of a block, and the domains that they name."""
        path = self.folder / "example.toml"
        path.write_text(text, encoding="utf-8")
        before = dict(os.environ)
        os.environ["PERSONA_PIPELINE_CONFIG"] = str(path)
        try:
            load_settings().load_domains()
        finally:
            os.environ.clear()
            os.environ.update(before)


def read_session(text: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a console block, each with the output that stands below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def assert_printed(printed: str, expected: str, command: str) -> None:
    """Fail where the output differs from what the page shows; `...` stands for anything."""
    pattern = r"[\s\S]*?".join(map(re.escape, squeeze(expected).split("...")))
    if not re.fullmatch(pattern, squeeze(printed)):
        assert squeeze(printed) == squeeze(expected), command


def squeeze(text: str) -> str:
    """Drop the spaces at the ends of lines, and empty lines around the text."""
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()).strip()
