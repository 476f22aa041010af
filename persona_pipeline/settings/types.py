"""Name the types of settings: what a value may be, and how it is read from a text."""

import os
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from persona_pipeline.corpus.addresses import refuse_nested
from persona_pipeline.dedup.rules import LEAST_JACCARD


def _split(value: object) -> object:
    if isinstance(value, os.PathLike):
        return [os.fspath(value)]
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _absent(value: object) -> object:
    return None if value == "none" else value


def _unlimited(value: object) -> object:
    return None if value in ("none", "all") else value


def _as_text(place: object) -> object:
    return os.fspath(place) if isinstance(place, os.PathLike) else place


def _separate(places: list[str]) -> list[str]:
    refuse_nested(places)
    return places


def _plain_address(value: str | None) -> str | None:
    """Accept an http(s) address without a user or password, which may be shown."""
    parts = urlsplit(value or "http://localhost")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = "not an address such as http://gpu:8000/v1"
        raise ValueError(msg)
    if parts.username or parts.password:
        msg = "holds a user or password: give it as api_key"
        raise ValueError(msg)
    return value


T = TypeVar("T")
OrNone = Annotated[T | None, BeforeValidator(_absent)]
"""A value, or `none`."""
OrAll = Annotated[T | None, BeforeValidator(_unlimited)]
"""A number, or `all` (also `none`)."""
Listed = Annotated[list[T], NoDecode, BeforeValidator(_split)]
"""A list, or its items in one text with commas between them."""
Place = Annotated[str, BeforeValidator(_as_text)]
"""A folder, file or URL pattern; from Python also a path."""
Places = Annotated[Listed[Place], AfterValidator(_separate)]
"""Folders, files and URL patterns of which none is inside another."""
Address = Annotated[OrNone[str], AfterValidator(_plain_address)]
"""An http(s) address without a password, or `none`."""
AtLeastOne = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
AtLeastOnce = Annotated[float, Field(ge=1)]
Similarity = Annotated[float, Field(ge=LEAST_JACCARD, le=1)]
"""A Jaccard similarity that can be searched for."""
Share = Annotated[float, Field(gt=0, le=1)]
Tokens = Annotated[int, Field(ge=0)]
Usd = Annotated[float, Field(ge=0)]
