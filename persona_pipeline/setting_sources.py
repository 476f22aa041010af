"""Where the settings come from, the first that has one gives all of it."""

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource


class WholeSettings(PydanticBaseSettingsSource):
    """A source without the settings that one before it has.

    Pydantic would merge those with names inside, key by key: what the file maps could then not be
    switched off by a variable.
    """

    def __init__(self, source: PydanticBaseSettingsSource) -> None:
        """`source`: what is read."""
        super().__init__(source.settings_cls)
        self._source = source

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """As in the source."""
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        """The settings that it gives, by name."""
        read = self._source()
        return {name: value for name, value in read.items() if name not in self.current_state}
