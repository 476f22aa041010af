"""The rows that all contenders get: short web-like texts, numbered, about one topic."""

import json
from pathlib import Path

SENTENCES = (
    "The {topic} committee met on day {n} and read the log of the past season aloud.",
    "Entry {n}: two measurements of the {topic} differ, so both were repeated before noon.",
    "A visitor asked why the {topic} is inspected twice; reply number {n} is kept on the board.",
    "Whoever repairs the {topic} next should start with item {n} of the list below.",
)


def write_prompts(path: Path, rows: int, topic: str) -> Path:
    """Write `rows` lines of {"id", "prompt"}; the ids are the same for every topic."""
    with path.open("w") as file:
        for n in range(rows):
            file.write(json.dumps({"id": f"row-{n}", "prompt": prompt(n, topic)}) + "\n")
    return path


def prompt(n: int, topic: str) -> str:
    """The user prompt of row `n`: about 400 characters, different from all others."""
    text = " ".join(sentence.format(topic=topic, n=n) for sentence in SENTENCES)
    return f"Describe the person behind this text.\n\n{text}"
