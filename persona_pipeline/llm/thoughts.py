"""Tell a model's thoughts from its answer, when the server leaves both in one text."""

import re
from collections.abc import Sequence

from persona_pipeline.llm.json_objects import FoundObject, find_objects

_NAMES = r"(?:budget:|seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis)"
BEGINNING = re.compile(
    rf"\s*(?:<{_NAMES}>|\[THINK\]|◁think▷|<\|START_THINKING\|>|<\|begin_of_thought\|>"
    r"|(?:<\|start\|>assistant)?<\|channel\|?>\s*(?:analysis|commentary|thought)(?:<\|message\|>)?)",
    re.IGNORECASE,
)
"""Matches the beginning of thoughts: DeepSeek's and Qwen's, Magistral's, Kimi's, Command's, and
the channels of gpt-oss and Gemma. `vllm/reasoning` has a parser for each."""
ENDING = re.compile(
    rf"</{_NAMES}>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>"
    r"|<\|channel\|>\s*final\b[^{}]{0,40}?<\|message\|>|<channel\|>"
    r"|assistantfinal(?=\s*[{`])",
    re.IGNORECASE,
)
"""Matches the end of thoughts. `assistantfinal` is what is left of gpt-oss's channel when a server
drops the special tokens."""


def split_thoughts(text: str) -> tuple[str, str]:
    """Return the thoughts without their tags, and the answer after their last end.

    Thoughts without an end last to the end of the text.
    """
    begins = BEGINNING.match(text)
    if not begins and not ENDING.search(text):
        return "", text
    end = end_of_thoughts(text, list(find_objects(text)))
    if not end and not begins:
        return "", text
    thoughts, answer = (text[:end], text[end:]) if end else (text, "")
    return ENDING.sub("", BEGINNING.sub("", thoughts, count=1)).strip(), answer


def end_of_thoughts(text: str, objects: Sequence[FoundObject]) -> int:
    """Return where the last thoughts end; 0: nowhere.

    An end inside one of the text's objects is a word of the answer.
    """
    ends = [match.end() for match in ENDING.finditer(text)]
    outside = (
        end for end in reversed(ends) if not any(one.start < end <= one.end for one in objects)
    )
    return next(outside, 0)


def is_unfinished(text: str) -> bool:
    """Return whether the text begins with thoughts that never end."""
    return bool(BEGINNING.match(text)) and not ENDING.search(text)
