"""Read what a folder of the Hugging Face Hub says of itself: its data files, licence and language.

A data set there is a folder with a card: a README.md that begins with YAML (Hub documentation,
"Dataset Cards" and "Data files Configuration"). `save_to_disk` of the library datasets writes
dataset_info.json and state.json, or dataset_dict.json, in place of a card.
"""

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import yaml

from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.errors import SourceError

LOG = logging.getLogger(__name__)

CARD = "README.md"
MARK = "---"
"""The line before and after a card's YAML."""
LARGEST_CARD = 4 * 1024 * 1024
"""Bytes of a card that are read. Those of data sets with thousands of configurations have 1 MB."""
CARD_KEYS = frozenset(
    {
        *("annotations_creators", "configs", "dataset_info", "language_creators", "license"),
        *("license_name", "pretty_name", "size_categories", "source_datasets", "task_categories"),
    }
)
"""Keys of which a data set's card has one. The YAML of other README.md files has none of them."""
INFO = "dataset_info.json"
SAVED = ("state.json", "dataset_dict.json")
"""Files beside `INFO`, or above folders that have it, where `save_to_disk` wrote a data set."""
NOT_DATA = frozenset({INFO, *SAVED, "dataset_infos.json", "config.json", "croissant.json"})
PROSE = ("changelog", "citation", "copying", "license", "notice", "readme", "requirements")
PROSE_TYPES = frozenset({".txt", ".html", ".pdf"})
"""Beginnings and endings of the names of files that are about the data."""


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What a card says."""

    license: str | None = None
    language: str | None = None
    """None: the data set has several."""
    patterns: tuple[str, ...] = ()
    """Which files hold the data, as paths below the folder; none: all that can be read."""

    def fill(self, options: CorpusOptions) -> CorpusOptions:
        """Return the options, with licence and language of the card where they give none."""
        return replace(
            options,
            license=options.license or self.license,
            language=options.language or self.language,
        )

    def choose(self, names: Iterable[str], readable: Collection[str], folder: str) -> list[str]:
        """Return the names of the files that hold data.

        Args:
            names: all files, as paths below the folder with / between the parts.
            readable: those of a type that holds data.
            folder: what the folder is called in errors.

        Raises:
            SourceError: no file matches the patterns of the card.
        """
        names = list(names)
        if not self.patterns:
            chosen = [name for name in names if name in readable and not _is_about_data(name)]
        else:
            split = [pattern.split("/") for pattern in self.patterns]
            chosen = [name for name in names if _matches_any(name.split("/"), split)]
            if names and not chosen:
                listed = ", ".join(self.patterns)
                msg = f"{folder} has none of the data files that its {CARD} names: {listed}"
                raise SourceError(msg)
        left = len(names) - len(chosen)
        LOG.info("%s is a data set: %d data files, %d others left out", folder, len(chosen), left)
        return chosen


def read_card(folder: Path) -> DatasetCard | None:
    """Return the card of a local folder; None: the folder is no data set of the Hub."""
    try:
        with (folder / CARD).open("rb") as file:
            card = parse_card(file.read(LARGEST_CARD).decode("utf-8", "replace"))
    except OSError:
        card = None
    return card or _read_saved(folder)


def parse_card(text: str) -> DatasetCard | None:
    """Return what the YAML at the beginning of a README.md says; None: this is no card."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != MARK:
        return None
    ends = [number for number, line in enumerate(lines[1:], start=1) if line.rstrip() == MARK]
    try:
        content = yaml.safe_load("\n".join(lines[1 : ends[0]])) if ends else None
    except yaml.YAMLError as error:
        LOG.warning("the YAML of %s cannot be read: %s", CARD, str(error).replace("\n", " "))
        return None
    if not isinstance(content, Mapping) or not CARD_KEYS & content.keys():
        return None
    licence = _one_text(content.get("license"))
    if licence == "other":
        licence = _one_text(content.get("license_name")) or licence
    languages = _texts(content.get("language"))
    patterns = tuple(dict.fromkeys(_patterns(content.get("configs"))))
    return DatasetCard(licence, languages[0] if len(languages) == 1 else None, patterns)


def _read_saved(folder: Path) -> DatasetCard | None:
    """Return what `save_to_disk` wrote of a data set."""
    if not any((folder / name).is_file() for name in SAVED):
        return None
    infos = [path for path in (folder / INFO, *sorted(folder.glob(f"*/{INFO}"))) if path.is_file()]
    for path in infos:
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, OSError):
            LOG.warning("%s cannot be read", path)
            continue
        if isinstance(content, Mapping):
            return DatasetCard(_one_text(content.get("license")))
    return None


def _is_about_data(name: str) -> bool:
    path = PurePosixPath(name.lower())
    is_prose = path.suffix in PROSE_TYPES and path.name.startswith(PROSE)
    return path.name in NOT_DATA or is_prose


def _patterns(configs: object) -> Iterator[str]:
    """Yield the patterns of all configurations and splits."""
    for config in configs if isinstance(configs, list) else ():
        if not isinstance(config, Mapping):
            continue
        folder = _one_text(config.get("data_dir")) or ""
        prefix = f"{folder.removeprefix('./').strip('/')}/" if folder.strip("./") else ""
        listed = list(_paths(config.get("data_files")))
        if not listed and prefix:
            yield f"{prefix}**"
        for path in listed:
            whole = prefix + path.removeprefix("./")
            yield f"{whole}**" if whole.endswith("/") else whole


def _paths(files: object) -> Iterator[str]:
    """Yield the paths in `data_files`: a text, a list, or by split."""
    if isinstance(files, str):
        yield files
    elif isinstance(files, list):
        for item in files:
            yield from _paths(item.get("path") if isinstance(item, Mapping) else item)
    elif isinstance(files, Mapping):
        for item in files.values():
            yield from _paths(item)


def _matches_any(parts: Sequence[str], patterns: Sequence[Sequence[str]]) -> bool:
    return any(_matches(parts, pattern) for pattern in patterns)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a path matches, part by part; ** stands for any number of parts."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _one_text(value: object) -> str | None:
    """Return a text, or several with commas between them."""
    return ", ".join(_texts(value)) or None


def _texts(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item.strip() for item in items if isinstance(item, str) and item.strip()]
