"""State the rules of a diverse subset of the hub: one value of the setting `selections`."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)

from persona_pipeline.errors import SettingsError, tell_renamed, unknown_choice

SelectionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Threshold = Annotated[float, Field(gt=0, le=1)]


class Selection(BaseModel):
    """How many personas are chosen, and how different from each other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int | None = Field(None, ge=1, description="most personas; none: all that are left")
    thresholds: list[Threshold] = Field(
        [], description="falling word-set similarities to remove at, one after the other"
    )
    method: Literal["farthest", "first"] = Field(
        "farthest", description="by the embeddings, each the farthest from those before; or first"
    )
    seed: int = Field(0, description="draws the persona that is chosen first")

    @property
    def is_spread(self) -> bool:
        """Whether personas are chosen by their embeddings."""
        return self.method == "farthest" and self.count is not None

    @model_validator(mode="before")
    @classmethod
    def _by_old_name(cls, value: object) -> object:
        """Accept `farthest = false`, the name of `method` before 0.2."""
        if not (isinstance(value, dict) and "farthest" in value):
            return value
        if "method" in value:
            msg = "farthest is the old name of method: give method alone"
            raise ValueError(msg)
        rules = dict(value)
        is_farthest = TypeAdapter(bool).validate_python(rules.pop("farthest"))
        rules["method"] = "farthest" if is_farthest else "first"
        tell_renamed(f"farthest = {str(is_farthest).lower()}", f'method = "{rules["method"]}"')
        return rules

    @field_validator("thresholds", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @field_validator("thresholds")
    @classmethod
    def _falling(cls, value: list[float]) -> list[float]:
        if any(later >= earlier for earlier, later in pairwise(value)):
            msg = "not strictly falling, such as 0.7, 0.5"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _chooses(self) -> Self:
        if self.count is None and not self.thresholds:
            msg = "chooses nobody: give count, or thresholds, or both"
            raise ValueError(msg)
        return self


def check_selection(name: str, known: Iterable[str], hint: str = "") -> None:
    """Check that a selection of this name is configured.

    Raises:
        SettingsError: the name is unknown; lists known ones, or says how to configure one.
    """
    names = list(known)
    if name in names:
        return
    if names:
        raise SettingsError(unknown_choice("selection", name, names) + hint)
    msg = f"unknown selection {name!r}; none is configured: {how_to_configure(name)}{hint}"
    raise SettingsError(msg)


def how_to_configure(name: str) -> str:
    """Return a text that says which setting to write, and where."""
    return (
        f"set selections, in persona_pipeline.toml as [selections.{name}] with count = 100, or as "
        f"""PERSONA_PIPELINE_SELECTIONS='{{"{name}": {{"count": 100}}}}'"""
    )
