"""Read what a folder of the Hugging Face Hub says of itself: its data files, licence and language.

A data set there is a folder with a card: a README.md that begins with YAML (Hub documentation,
"Dataset Cards" and "Data files Configuration"). `save_to_disk` of the library datasets writes
dataset_info.json and state.json, or dataset_dict.json, in place of a card.
"""

import json
import logging
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from stat import S_ISREG

import yaml

from persona_pipeline.corpus.normalize import normalize_label
from persona_pipeline.corpus.options import CorpusOptions

LOG = logging.getLogger(__name__)

CARD = "README.md"
MARK = "---"
"""The line before and after a card's YAML."""
LARGEST_CARD = 4 * 1024 * 1024
"""Bytes of a card that are read. Those of data sets with thousands of configurations have 1 MB."""
MOST_PATTERNS = 100_000
"""Patterns that are taken of a card: aliases in YAML can stand for any number."""
MOST_MATCHES = 1_000_000
"""Pairs of a file and a pattern up to which missing files are looked for: two seconds."""
SURE_KEYS = frozenset(
    {
        *(
            "annotations_creators",
            "configs",
            "dataset_info",
            "language_creators",
            "multilinguality",
        ),
        *("pretty_name", "size_categories", "source_datasets", "task_categories", "task_ids"),
    }
)
"""Keys that the README.md of a data set alone has."""
OTHER_KEYS = frozenset(
    {"language", "license", "license_link", "license_name", "tags", "thumbnail", "viewer"}
)
"""Keys that others have too: a card may have no others beside `license`."""
READ_KEYS = ("license", "license_name", "language", "configs")
TOP_LEVEL = re.compile(r"""(?m)^(?=["']?[A-Za-z_][\w-]*["']?[ \t]*:)""")
"""Matches the start of each key. `dataset_info` may have a megabyte, and is not read."""
_ADDRESS = re.compile(r"hf://datasets/[^/]+/[^/]+/")
INFO = "dataset_info.json"
SAVED = ("state.json", "dataset_dict.json")
"""Files beside `INFO`, or above folders that have it, where `save_to_disk` wrote a data set."""
NOT_DATA = frozenset({INFO, *SAVED, "dataset_infos.json", "config.json", "croissant.json"})
PROSE = frozenset({"changelog", "citation", "copying", "licence", "license", "notice", "readme"})
"""Names, without their endings, of files about the data."""
PROSE_TYPES = frozenset({"", ".txt", ".html", ".pdf", ".rst", ".cff", ".bib"})


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What a card says."""

    license: str | None = None
    language: str | None = None
    """None: the data set has several."""
    patterns: tuple[str, ...] = ()
    """Which files hold the data, as paths below the folder."""
    has_default: bool = True
    """Whether all other files hold data too: a configuration, or the whole card, names none."""

    def fill(self, options: CorpusOptions) -> CorpusOptions:
        """Return the options, with licence and language of the card where they give none."""
        return replace(
            options,
            license=options.license or self.license,
            language=options.language or self.language,
        )

    def inherit(self, outer: "DatasetCard") -> "DatasetCard":
        """Return the card with the licence and the language of one above, where it has none."""
        return replace(
            self,
            license=self.license or outer.license,
            language=self.language or outer.language,
        )

    def choose(self, names: Iterable[str]) -> list[str]:
        """Return the names of the files that hold data, or are of no known type.

        Left out are Markdown, code, licences, notices and descriptions of the data, unless a
        pattern names them as they are.

        Args:
            names: all files, as paths below the folder with / between the parts.
        """
        patterns = [_split(pattern) for pattern in self.patterns]
        literal = {tuple(parts) for parts in patterns if not any(map(_is_wild, parts))}
        split = [parts for parts in patterns if any(map(_is_wild, parts))]

        def is_chosen(name: str) -> bool:
            parts = _split(name)
            if tuple(parts) in literal:
                return True
            if _is_about_data(name):
                return False
            return self.has_default or any(_matches(parts, pattern) for pattern in split)

        return list(filter(is_chosen, names))

    def describe_missing(self, place: str) -> str:
        """Say that a data set has none of its files."""
        patterns = ", ".join(self.patterns)
        return f"{place} has none of the data files that its {CARD} names: {patterns}"

    def unmatched(self, names: Collection[str]) -> list[str]:
        """Return the patterns that no file matches: a part of the data set may be missing."""
        if len(self.patterns) * len(names) > MOST_MATCHES:
            return []
        parts = [_split(name) for name in names]
        return [
            pattern
            for pattern in self.patterns
            if not any(_matches(each, _split(pattern)) for each in parts)
        ]


def read_card(folder: Path) -> DatasetCard | None:
    """Return the card of a local folder; None: the folder is no data set of the Hub."""
    path = folder / CARD
    try:
        status = path.stat()
    except OSError:
        return _read_saved(folder)
    if not S_ISREG(status.st_mode):
        return None
    return _read_file(path, status.st_mtime_ns, status.st_size) or _read_saved(folder)


def find_card(folder: Path) -> DatasetCard | None:
    """Return the card of the nearest folder from this one upwards; those above fill its gaps."""
    nearest: DatasetCard | None = None
    for place in (folder, *folder.absolute().parents):
        if card := read_card(place):
            nearest = nearest.inherit(card) if nearest else card
    return nearest


@lru_cache(maxsize=1024)
def _read_file(path: Path, _modified: int, _size: int) -> DatasetCard | None:
    """Read a card once as long as its file is the same."""
    try:
        with path.open("rb") as file:
            return parse_card(file.read(LARGEST_CARD), str(path))
    except OSError:
        return None


def parse_card(data: bytes, place: str) -> DatasetCard | None:
    """Return what the YAML at the beginning of a README.md says; None: this is no card.

    Args:
        data: the file.
        place: what the file is called in the log.
    """
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    head, *lines = text.splitlines() or [""]
    ends = [number for number, line in enumerate(lines) if line.rstrip() == MARK]
    if head.rstrip() != MARK or not ends:
        return None
    blocks = {
        block.partition(":")[0].strip("\"' \t"): block
        for block in TOP_LEVEL.split("\n".join(lines[: ends[0]]))
    }
    known = {key for key in blocks if key}
    if not (known & SURE_KEYS or ("license" in known and known <= OTHER_KEYS)):
        return None
    try:
        read = "\n".join(blocks.get(key, "") for key in READ_KEYS)
        content = yaml.load(read, yaml.BaseLoader) or {}  # noqa: S506 - texts and nothing else
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = str(error).split("\n", 1)[0]
        LOG.warning("the YAML at the beginning of %s cannot be read: %s", place, first)
        return None
    return _as_card(content) if isinstance(content, Mapping) else None


def _as_card(content: Mapping[object, object]) -> DatasetCard:
    licence = _one_text(content.get("license"))
    if licence == "other":
        licence = _one_text(content.get("license_name")) or licence
    languages = _texts(content.get("language"))
    configs = _as_list(content.get("configs"))
    listed = [config for config in configs if isinstance(config, Mapping)]
    patterns = islice((path for config in listed for path in _patterns(config)), MOST_PATTERNS)
    return DatasetCard(
        license=normalize_label(licence),
        language=normalize_label(languages[0]) if len(languages) == 1 else None,
        patterns=tuple(dict.fromkeys(patterns)),
        has_default=not listed or any(next(_patterns(config), None) is None for config in listed),
    )


def _read_saved(folder: Path) -> DatasetCard | None:
    """Return what `save_to_disk` wrote of a data set."""
    if not any((folder / name).is_file() for name in SAVED):
        return None
    infos = [path for path in (folder / INFO, *sorted(folder.glob(f"*/{INFO}"))) if path.is_file()]
    for path in infos:
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError, OSError):
            LOG.warning("%s cannot be read", path)
            continue
        if isinstance(content, Mapping):
            return DatasetCard(normalize_label(_one_text(content.get("license"))))
    return None


def _is_about_data(name: str) -> bool:
    path = PurePosixPath(name.lower())
    if path.suffix in {".md", ".markdown", ".py"} or path.name in NOT_DATA:
        return True
    if any(part.startswith(".") for part in path.parts):
        return True
    if path.suffix == ".arrow" and path.name.startswith("cache-"):  # what map() has left
        return True
    is_prose = path.stem.split(".")[0] in PROSE and path.suffix in PROSE_TYPES
    return is_prose and (not path.suffix or "/" not in name)


def _split(pattern: str) -> list[str]:
    """Return the parts of a path or pattern, in one form of Unicode."""
    parts = unicodedata.normalize("NFC", _ADDRESS.sub("", pattern)).split("/")
    deep = [("**", f"*{part[2:]}") if part[:2] == "**" and part[2:] else (part,) for part in parts]
    return [part for pair in deep for part in pair if part]


def _is_wild(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _patterns(config: Mapping[object, object]) -> Iterator[str]:
    """Yield the patterns of all splits of a configuration."""
    folder = (_one_text(config.get("data_dir")) or "").removeprefix("./").strip("/")
    prefix = f"{folder}/" if folder.strip(".") else ""
    listed = _paths(config.get("data_files"))
    first = next(listed, None)
    if first is None:
        if prefix:
            yield f"{prefix}**"
        return
    for path in (first, *listed):
        whole = prefix + path.removeprefix("./")
        yield f"{whole}**" if whole.endswith("/") else whole


def _paths(files: object) -> Iterator[str]:
    """Yield the paths in `data_files`: a text, a list of texts or splits, or lists by split."""
    for item in files.values() if isinstance(files, Mapping) else _as_list(files):
        for split in _as_list(item):
            inner = split.get("path") if isinstance(split, Mapping) else split
            yield from (path for path in _as_list(inner) if isinstance(path, str))


def _as_list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a path matches, part by part; ** stands for any number of parts."""
    ends = {0}
    """How many parts the pieces so far may have taken."""
    for piece in pattern:
        if piece == "**":
            ends = set(range(min(ends), len(parts) + 1))
        else:
            ends = {end + 1 for end in ends if end < len(parts) and fnmatchcase(parts[end], piece)}
        if not ends:
            return False
    return len(parts) in ends


def _one_text(value: object) -> str | None:
    """Return a text, or several with commas between them."""
    return ", ".join(_texts(value)) or None


def _texts(value: object) -> list[str]:
    return [item.strip() for item in _as_list(value) if isinstance(item, str) and item.strip()]
