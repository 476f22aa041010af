"""The documents: every example runs, every name is explained, what is generated is up to date."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from docs import generate
from persona_pipeline import reasons
from persona_pipeline.cli.main import COMMANDS, cli
from persona_pipeline.settings import PREFIX, Settings
from persona_pipeline.sql import sql_names
from persona_pipeline.synthesis.domain import load_domains
from tests.support.doc_blocks import RUN, SHOWN, PageFolder, assert_printed, read_blocks

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIAL = "docs/tutorial.md"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
}
WITH_BLOCKS = [name for name, text in PAGES.items() if any(read_blocks(text))]
EVERYTHING = "\n".join(map(generate.expand, PAGES.values()))
COSTS_NOTHING = {"MODEL": "fake/demo", "EMBEDDING_MODEL": "fake/embedder"}
SOURCES = ("persona_pipeline", "assets", "sql", "docs", "tests", "benchmarks")
MOST_WORDS = 900
"""Of the README, as `wc -w` counts them."""


@pytest.fixture
def _shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal of 80 columns, and models that cost nothing; what a page exports ends with it."""
    for name, value in COSTS_NOTHING.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    monkeypatch.setenv("COLUMNS", "80")
    before, path = dict(os.environ), list(sys.path)
    yield
    os.environ.clear()
    os.environ.update(before)
    sys.path[:] = path


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the first page that ran, the tutorial, leaves its results."""
    return tmp_path_factory.mktemp("docs") / "tutorial"


@pytest.mark.xdist_group("docs")
@pytest.mark.usefixtures("_shell")
@pytest.mark.parametrize("page", [TUTORIAL, *(name for name in WITH_BLOCKS if name != TUTORIAL)])
def test_every_example_of_a_page_runs_and_prints_what_the_page_shows(
    page: str, tutorial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not tutorial.exists():
        run_page(TUTORIAL, tutorial, monkeypatch)
    if page != TUTORIAL:
        shutil.copytree(tutorial, tmp_path / "checkout")
        run_page(page, tmp_path / "checkout", monkeypatch)


def run_page(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = PageFolder(folder)
    monkeypatch.chdir(folder)
    for block in read_blocks(PAGES[page]):
        place.run(block)


@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_every_block_says_how_it_is_run_or_why_it_is_not(page: str) -> None:
    for block in read_blocks(PAGES[page]):
        is_known = block.language in RUN | SHOWN or block.title or block.not_run
        assert is_known, f"{page}, line {block.line}: no language that the tests run"


def test_output_that_differs_from_the_page_is_noticed() -> None:
    assert_printed("a 1 \nb\nc\n", "a ...\nc", "x")
    for expected in ("a", "a\nb", "... d", "a\nc"):
        with pytest.raises(AssertionError):
            assert_printed("a\nb\nc", expected, "x")


def test_the_list_of_settings_is_up_to_date() -> None:
    committed = (ROOT / "SETTINGS.md").read_text(encoding="utf-8")
    assert committed == generate.settings_file(), "python docs/generate.py settings > SETTINGS.md"


def test_every_setting_stands_in_the_list_with_what_it_does() -> None:
    listed = dict(
        re.findall(r"^\| `(\w+)` \| .+? \| (.+) \|$", generate.settings(""), re.MULTILINE)
    )
    assert listed.keys() == Settings.model_fields.keys()
    for name, text in listed.items():
        assert text[0].isupper() or text.startswith("rapidfuzz"), name
        assert text.endswith("."), name


def test_every_domain_command_and_mart_is_in_the_docs() -> None:
    names = [
        *(f"synthetic.{domain}" for domain in load_domains()),
        *(f"persona-pipeline {command}" for command in COMMANDS),
        *(name.replace("/", ".") for name in sql_names("marts")),
        *(f"marts.{name.split('/')[1]}" for name in sql_names("search") if "search_" in name),
    ]
    assert [name for name in names if name not in EVERYTHING] == []


def options() -> dict[str, set[str]]:
    """The options of every command, those of its subcommands too."""
    return {name: set(_options(command)) for name, command in _commands()}


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command


def _options(command: click.Command) -> Iterator[str]:
    yield from (name for item in command.params for name in item.opts if name.startswith("--"))
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from _options(inner)


def test_every_option_in_the_docs_exists() -> None:
    known = options()
    used = re.findall(r"persona-pipeline (\w+)([^\n`#|]*)", EVERYTHING)
    unknown = [
        f"{command} {option}"
        for command, rest in used
        if command in known
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest)
        if option not in known[command] | {"--help"}
    ]
    assert used
    assert unknown == []


def test_the_site_lists_the_options_of_every_command() -> None:
    assert ":module: persona_pipeline.cli.main" in PAGES["docs/reference/commands.md"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_of_each_what_its_own_help_begins_with(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    own = (command.help or "").split(".")[0]
    assert COMMANDS[name].summary.rstrip(".").split(":")[0].split(";")[0] in own


def test_every_reason_is_explained() -> None:
    page = PAGES["docs/reference/reasons.md"]
    for choices in (
        reasons.DocumentReason,
        reasons.SkipReason,
        reasons.PersonaReason,
        reasons.RecordReason,
    ):
        listed = page.split(f": {(choices.__doc__ or '').split('`')[1]}\n")[1].split("\n## ")[0]
        names = re.findall(r"^\| `(\w+)` \| .+\. \|$", listed, re.MULTILINE)
        assert names == [choice.value for choice in choices]


def test_every_decision_has_a_number_a_date_and_a_reason() -> None:
    paths = sorted((DOCS / "decisions").glob("0*.md"))
    for number, path in enumerate(paths, start=1):
        title, date, *parts = path.read_text(encoding="utf-8").split("\n\n")
        assert path.name.startswith(f"{number:04d}-")
        assert title.startswith(f"# {number}. ")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)
        bold = [match[1] for part in parts if (match := re.match(r"\*\*(\w+)\.\*\* ", part))]
        assert bold in (["Context", "Choice", "Why"], ["Context", "Choice", "Why", "Cost"])


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", PAGES[page])
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("name", ["SETTINGS.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_link_of_the_other_documents_leads_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_source_file_that_a_document_names_is_there() -> None:
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]+\.(?:py|sql|csv))`", architecture + EVERYTHING))
    files = [path.as_posix() for folder in SOURCES for path in (ROOT / folder).rglob("*.*")]
    assert len(named) > 20
    assert [name for name in named if not any(file.endswith(f"/{name}") for file in files)] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert {page for page in pages if f": {page}" not in navigation} == {
        page for page in pages if page.startswith("decisions/0")
    }


def test_every_page_has_a_title_and_a_summary_for_llms_txt() -> None:
    for page, text in PAGES.items():
        title, sentence = generate.summary(text)
        assert title, page
        assert len(sentence) > 10, page


def test_the_readme_is_short_and_no_document_holds_an_unfinished_mark() -> None:
    assert len(PAGES["README.md"].split()) <= MOST_WORDS
    assert "@@" not in EVERYTHING


@pytest.mark.skipif(
    find_spec("mkdocs") is None, reason="mkdocs is in the dependency group docs, not in dev"
)
def test_mkdocs_finds_the_hooks_and_pages_that_its_configuration_names() -> None:
    from mkdocs.config import load_config  # noqa: PLC0415 - only where it is installed

    config = load_config(str(ROOT / "mkdocs.yml"), strict=True)
    assert config["site_name"] == "persona_pipeline"
    assert "docs/generate.py" in config["hooks"]
