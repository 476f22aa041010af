"""The layout of the package, and the names that were replaced in 0.2 and may not come back."""

import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    "__init__",
    "__main__",
    "control_characters",
    "errors",
    "estimate",
    "hashing",
    "locks",
    "models",
    "pending_shards",
    "process",
    "project",
    "reasons",
    "sql",
    "stage_names",
    "steps",
}
FOLDERS = {
    "artifacts",
    "cli",
    "corpus",
    "dedup",
    "hub",
    "llm",
    "personas",
    "settings",
    "store",
    "synthesis",
}
OLD_NAMES = {
    *("Line", "open_line", "read_line", "Lane", "Lanes", "OpenLanes", "open_lane", "Terms"),
    *("Bought", "Patience", "Tries", "Asker", "Buyer", "Gate", "BatchGate", "Throttle", "Pass"),
    *("Claims", "BatchShelf", "Spent", "Totals", "BudgetReached", "Before", "look_before"),
    *("print_aftermath", "Applied", "read_applied", "Unfinished", "unfinished_shards", "Found"),
    *("Cells", "learn_cells", "LONGER", "shorten", "Combinations", "surface_pairs"),
    *("sign_of_life", "take_in", "Look", "keep_rest", "contested", "beaten", "winners"),
    *("opened_store", "environment_of_settings", "told", "made", "found", "is_"),
    *("lane", "lanes", "asker", "throttle", "shelf", "patience", "aftermath"),
}
OLD_SQL = r"\b(beaten|contested|winners|surface|pairs_of_line|hub_in_line|found)\b"
OLD_MODULES = r"\b(llm/buying|setting_sources|sql_files|aftermath|stage_runs|record_duplicates)\b"
OLD_SETTINGS = r"`(memory|threads|pairs_from)`"


def tracked(*patterns: str) -> list[Path]:
    """The files of the checkout that match; those of a checkout without git, too."""
    try:
        command = ["git", "ls-files", *patterns]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("names are looked for in the files that git knows")
    return [path for name in listed.stdout.split() if (path := ROOT / name).is_file()]


def test_the_package_holds_the_rooms_and_no_loose_module() -> None:
    package = ROOT / "persona_pipeline"
    assert {path.stem for path in package.glob("*.py")} == MODULES
    assert {path.parent.name for path in package.glob("*/__init__.py")} == FOLDERS


def test_no_identifier_has_a_name_that_was_replaced() -> None:
    old = [
        f"{path.relative_to(ROOT)}:{token.start[0]} {token.string}"
        for path in tracked("persona_pipeline/*.py", "assets/*.py", "tests/*.py", "benchmarks/*.py")
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.NAME and token.string in OLD_NAMES
    ]
    assert old == []


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (("sql/*.sql",), OLD_SQL),
        (("*.md", "*.toml", "*.yaml"), OLD_MODULES),
        (("*.md",), OLD_SETTINGS),
    ],
)
def test_no_text_has_a_name_that_was_replaced(patterns: tuple[str, ...], words: str) -> None:
    migrations, changelog = ROOT / "sql" / "migrations", ROOT / "CHANGELOG.md"
    old = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked(*patterns)
        if path not in {Path(__file__), changelog} and migrations not in path.parents
        for match in re.finditer(words, path.read_text())
    ]
    assert old == []
