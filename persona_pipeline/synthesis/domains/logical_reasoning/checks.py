"""Whether a blank of the form was left open."""

import re
from collections.abc import Mapping
from typing import Any

_BLANK = re.compile(r"\[[a-z, ]+\]")


def check(answer: Mapping[str, Any]) -> str | None:
    """What is wrong with the puzzle, or None."""
    blank = _BLANK.search(" ".join(map(str, answer.values())))
    return f"the form's blank {blank.group()} is left in the puzzle" if blank else None
