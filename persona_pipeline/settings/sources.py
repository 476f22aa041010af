"""Read settings from their sources, and translate the old names that still work."""

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from persona_pipeline.errors import SettingsError, tell_renamed

PREFIX = "PERSONA_PIPELINE_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
DEFAULT_CONFIG = Path("persona_pipeline.toml")
ELSEWHERE = {CONFIG_VARIABLE, f"{PREFIX}CACHE_DIR"}
"""Variables with the prefix that are read before, or without, the settings."""
RENAMED = {
    "memory": "dedup_memory",
    "pairs_from": "store_pairs_from",
    "threads": "dedup_threads",
}
"""Names of settings before 0.2, which work until 0.3, and their names now."""


def config_file() -> Path:
    """Return the TOML file that settings are read from, whether it exists or not."""
    return Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))


def renamed_settings(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Replace the old names of settings; warn once about each.

    Raises:
        SettingsError: a setting has other values by its old and by its new name.
    """
    renamed = dict(values)
    for old, new in RENAMED.items():
        if old in renamed:
            if renamed.get(new, renamed[old]) != renamed[old]:
                msg = f"{place} gives setting {new!r} two values: {old!r} is its old name"
                raise SettingsError(msg)
            renamed[new] = renamed.pop(old)
            tell_renamed(f"setting {old!r}", f"{new!r}")
    return renamed


def rename_variables(first: Collection[str] = ()) -> None:
    """Replace the old names in the environment, which child processes read too.

    Args:
        first: variables that were there before those to be renamed, and win over them.

    Raises:
        SettingsError: the variables of the old and of the new name differ.
    """
    for old, new in RENAMED.items():
        before, now = f"{PREFIX}{old.upper()}", f"{PREFIX}{new.upper()}"
        if before in os.environ:
            value = os.environ.pop(before)
            if not value or now in first:  # empty is unset, as everywhere
                continue
            os.environ[now] = os.environ.get(now) or value
            if os.environ[now] != value:
                msg = f"{before} and {now} differ: the first is the old name of the second"
                raise SettingsError(msg)
            tell_renamed(before, now)


class WholeSettings(PydanticBaseSettingsSource):
    """Read a source, but leave out the settings that an earlier source has.

    Pydantic would merge mappings key by key. A variable could then not remove a key that the file
    has.
    """

    def __init__(
        self,
        source: PydanticBaseSettingsSource,
        rename: Callable[[Mapping[str, Any], str], dict[str, Any]] | None = None,
    ) -> None:
        """Wrap `source`; `rename` replaces old names in what it reads."""
        super().__init__(source.settings_cls)
        self._source, self._rename = source, rename

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return what the wrapped source returns."""
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        """Return the settings of this source by name."""
        read = self._source()
        if self._rename:
            read = self._rename(read, str(config_file()))
        return {name: value for name, value in read.items() if name not in self.current_state}
