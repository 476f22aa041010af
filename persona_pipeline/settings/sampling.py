"""Check the settings that change what is asked of a model: its sampling and its parameters."""

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

RESERVED = {
    "api_base", "api_key", "base_url", "max_completion_tokens", "max_tokens", "messages", "model",
    "n", "response_format", "stream",
}  # fmt: skip
"""Parameters that the platform sets itself. Budgets rely on the bound on tokens."""
SECRET = re.compile(
    r"(api|access|secret|private|session)_?key|token$|secret|password|passwd|credential"
    r"|authorization|headers$"
)
"""Matches names of fields, wherever they stand in a parameter, that may hold a secret. What is
asked of a model is stored with each call."""


def _not_sent(value: object) -> object:
    return None if value == "none" else value


class SamplingSetting(BaseModel):
    """Change how a model draws its answers. What is not given is as the prompt says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: Annotated[
        Annotated[float, Field(ge=0, le=2)] | None, BeforeValidator(_not_sent)
    ] = None
    top_p: Annotated[Annotated[float, Field(gt=0, le=1)] | None, BeforeValidator(_not_sent)] = None
    max_tokens: Annotated[int, Field(ge=1)] = 256


def _free_parameters(parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if reserved := sorted(RESERVED & parameters.keys()):
        msg = (
            f"{', '.join(reserved)} cannot be set here: the platform sets it. The longest answer "
            "is max_tokens of the setting 'sampling'"
        )
        raise ValueError(msg)
    if secret := sorted(name for name in _names(parameters) if SECRET.search(_spelt_plainly(name))):
        msg = (
            f"{', '.join(secret)} cannot be set here: they may hold a secret, and parameters are "
            "stored with each call. The key of the server is api_key"
        )
        raise ValueError(msg)
    return parameters


def _names(value: JsonValue) -> Iterator[str]:
    """Yield the names of all fields inside a value."""
    if isinstance(value, dict):
        yield from value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        yield from _names(item)


def _spelt_plainly(name: str) -> str:
    return name.lower().replace("-", "_")


Parameters = Annotated[dict[str, JsonValue], AfterValidator(_free_parameters)]
"""Parameters of a request by name."""
