"""Generate what the docs say about settings, tables, domains, reasons and decisions.

A page asks for a generated part with a comment such as `<!-- generated: tables corpus -->`.
MkDocs loads this module as a hook (`mkdocs.yml`), which also writes llms.txt.
`python docs/generate.py settings > SETTINGS.md` writes the settings for readers of the repository.
"""

import ast
import csv
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from persona_pipeline.settings import Settings
from persona_pipeline.sql import read_file
from persona_pipeline.stage_names import funnel_stages, stages_before
from persona_pipeline.store.dictionary import DICTIONARY, EVERYWHERE, ROW
from persona_pipeline.synthesis.domain import Domain, RecordDedup, load_domains

DOCS = Path(__file__).parent
MARKER = re.compile(r"^<!-- generated: (\w+) ?(.*?) -->$", re.MULTILINE)
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
CHOICE = "**Choice.**"
"""How the paragraph of a decision begins that says what was decided."""
GROUPS = {
    "Where, and which documents": "data_dir",
    "Models, pace and money": "model",
    "Personas": "verbs",
    "Duplicates and selections": "jaccard_threshold",
    "Records": "domains",
    "Checks in Dagster": "warn_rejected_share",
    "Runs and the database": "shards_per_run",
}
"""Headings of the settings, each with the first setting of its group, in the order of the class."""


def settings(_: str) -> str:
    """Return a heading and a table for each group of settings."""
    starts = {first: heading for heading, first in GROUPS.items()}
    lines: list[str] = []
    texts = read_docstrings(Settings)
    for name, field in Settings.model_fields.items():
        if name in starts:
            lines += ["", f"## {starts[name]}", "", "| setting | default | what it does |"]
            lines.append("|---|---|---|")
        text = " ".join((field.description or texts[name]).split())
        lines.append(f"| `{name}` | {_default(field)} | {text} |")
    return "\n".join(lines).strip()


def read_docstrings(model: type) -> dict[str, str]:
    """Return the text below each field of a class and its bases.

    Pydantic can do so when it makes the class, which takes 47 of the 52 ms of its import.
    """
    texts = dict[str, str]()
    for part in reversed(model.__mro__):
        if not part.__module__.startswith("persona_pipeline"):
            continue
        [defined] = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        for field, text in pairwise(defined.body if isinstance(defined, ast.ClassDef) else ()):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                value = ast.literal_eval(text.value)
                texts[ast.unparse(field.target)] = inspect.cleandoc(value)
    return texts


def tables(schema: str) -> str:
    """Return a section for each table and view of a schema: what one row is, and its columns."""
    described = _dictionary()
    names = sorted(name for name in described if name.startswith(f"{schema}."))
    return "\n\n".join(_table(name, described[name]) for name in names)


def shared_columns(_: str) -> str:
    """Return the columns that mean the same in every table."""
    return _columns(_dictionary()[EVERYWHERE])


def domains(_: str) -> str:
    """Return a section for each packaged domain: fields, options and how records are compared."""
    return "\n\n".join(map(_domain, load_domains().values()))


def stages(_: str) -> str:
    """Return one row per stage: its name and the stages whose rows it reads."""
    rows = [
        f"| `{stage}` | {', '.join(f'`{name}`' for name in stages_before(stage)) or 'the source'} |"
        for stage in funnel_stages(load_domains())
    ]
    return "\n".join(["| stage | reads |", "|---|---|", *rows])


def decisions(_: str) -> str:
    """Return one row per decision: its number, its title and its date."""
    rows = []
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        title, date = path.read_text(encoding="utf-8").split("\n\n")[:2]
        number, _, name = title.removeprefix("# ").partition(". ")
        shown = date.replace("-", "&#8209;")  # a hyphen at which no line breaks
        rows.append(f"| {number} | [{name}]({path.name}) | {shown} |")
    return "\n".join(["| | decision | date |", "|---|---|---|", *rows])


PARTS: dict[str, Callable[[str], str]] = {
    "settings": settings,
    "tables": tables,
    "shared_columns": shared_columns,
    "domains": domains,
    "stages": stages,
    "decisions": decisions,
}


def expand(markdown: str) -> str:
    """Replace the comments that ask for generated parts."""
    return MARKER.sub(lambda match: PARTS[match[1]](match[2]), markdown)


def settings_file() -> str:
    """Return the text of SETTINGS.md: the reference page, with links that work from the root."""
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    note = "<!-- Generated: python docs/generate.py settings > SETTINGS.md -->"
    return f"{note}\n\n{expand(page).replace('](../', '](docs/')}"


def summary(markdown: str) -> tuple[str, str]:
    """Return a page's title and the first sentence of its first paragraph, without markup."""
    title, *rest = FRONT_MATTER.sub("", markdown).strip().split("\n\n")
    paragraphs = [part for part in rest if re.match(r"[A-Za-z`*\"\[]", part)]
    chosen = next((part for part in paragraphs if part.startswith(CHOICE)), *paragraphs[:1])
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(chosen.removeprefix(CHOICE).split()))
    sentence = re.split(r"(?<=\.)\s", text.strip())[0].rstrip(":")
    return title.removeprefix("# ").strip(), sentence.replace("*", "").replace("`", "")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, ByteSize):
        return value.human_readable(decimal=True, separator="")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(_text(item) for item in value) or "(empty)"
    return _text(value) if value != {} else "(empty)"


def _text(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _dictionary() -> dict[str, dict[str, str]]:
    """Read the descriptions of the dictionary's file, by table and column."""
    described: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(read_file(DICTIONARY).splitlines()):
        described.setdefault(row["table"], {})[row["column"]] = row["description"]
    return described


def _table(name: str, descriptions: Mapping[str, str]) -> str:
    columns = {column: text for column, text in descriptions.items() if column != ROW}
    parts = [f"### {name}", descriptions[ROW], *([_columns(columns)] if columns else [])]
    return "\n\n".join(parts)


def _columns(descriptions: Mapping[str, str]) -> str:
    rows = [f"| `{column}` | {_cell(text)} |" for column, text in descriptions.items()]
    return "\n".join(["| column | what it holds |", "|---|---|", *rows])


def _domain(domain: Domain) -> str:
    file = domain.file
    described = {
        name: file.columns.get(name) or str(schema.get("description", ""))
        for name, schema in file.fields.items()
    }
    options = [
        f"- `{name}`: {', '.join(f'`{choice}`' for choice in file.choices(name))}"
        for name in file.options
    ]
    parts = [f"## {file.name}", file.description, _columns(described)]
    if options:
        parts += ["A record draws one value of each option:", "\n".join(options)]
    return "\n\n".join([*parts, _compared(file.dedup)])


def _compared(rules: RecordDedup) -> str:
    parts = []
    if rules.signature:
        parts.append("Of records with the same signature, the first is kept.")
    if rules.threshold is not None:
        parts.append(f"Records are duplicates from a Jaccard similarity of {rules.threshold} on.")
    return " ".join(parts) or "Records of this domain are not compared."


# MkDocs calls what follows.
_PAGES: dict[str, str] = {}


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:  # noqa: ANN401 - MkDocs' Page
    """Fill in the generated parts of a page; remember its summary for llms.txt."""
    title, sentence = summary(markdown)
    _PAGES[page.file.src_uri] = f"- [{title}]({page.abs_url or page.url or './'}): {sentence}"
    return expand(markdown)


def on_page_content(html: str, **_: object) -> str:
    """Show `<NAME>` in the help of commands, which Markdown takes for HTML."""
    return html.replace("PERSONA_PIPELINE_<NAME>", "PERSONA_PIPELINE_&lt;NAME&gt;")


def on_post_build(*, config: Any, **_: object) -> None:  # noqa: ANN401 - MkDocs' MkDocsConfig
    """Write llms.txt, the list of pages for language models."""
    head = [f"# {config['site_name']}", "", f"> {config['site_description']}", ""]
    ranks = {uri: rank for rank, uri in enumerate(_listed(config["nav"]))}
    pages = sorted(_PAGES, key=lambda uri: (ranks.get(uri, len(ranks)), uri))
    text = "\n".join([*head, *map(_PAGES.__getitem__, pages), ""])
    (Path(config["site_dir"]) / "llms.txt").write_text(text, encoding="utf-8")


def _listed(entry: Any) -> Iterator[str]:  # noqa: ANN401 - a part of mkdocs.yml
    """Yield the files of the navigation in its order."""
    if isinstance(entry, str):
        yield entry
        return
    for inner in entry.values() if isinstance(entry, dict) else entry:
        yield from _listed(inner)


if __name__ == "__main__":
    if sys.argv[1:] != ["settings"]:
        sys.exit("usage: python docs/generate.py settings > SETTINGS.md")
    sys.stdout.write(settings_file())
