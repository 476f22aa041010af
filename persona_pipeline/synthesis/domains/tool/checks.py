"""What makes a function definition useless to a caller although it fits the schema."""

from collections.abc import Mapping
from typing import Any


def check(answer: Mapping[str, Any]) -> str | None:
    """What is wrong with the definition, or None."""
    parameters = answer["parameters"]
    names = [item["name"] for item in parameters]
    if len(set(names)) < len(names):
        return f"a parameter name occurs twice: {', '.join(names)}"
    if not any(item["required"] for item in parameters):
        return "no parameter is required"
    descriptions = [_folded(item["description"]) for item in parameters]
    if len({*descriptions, _folded(answer["description"])}) <= len(descriptions):
        return "two descriptions are the same"
    return None


def _folded(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")
