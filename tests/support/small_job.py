"""The smallest job with every kind of stage that buys: 12 personas, 12 vectors, 6 records."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support.commands import write_pages
from tests.support.served_model import ServedModel

DOMAINS = ("riddle", "toast")
IN_FLIGHT = 4
DOMAIN = """
name: {name}
title: Short texts
description: One row is one {name}.
text: "{{{{ words }}}}"
max_tokens: 100
fields:
  words: {{type: string, minLength: 20}}
examples:
  - given: {{persona: A gondolier.}}
    answer: {{words: The {name} that is always told first on a long evening by the canal.}}
  - given: {{persona: A baker.}}
    answer: {{words: Another {name} for a cold morning in front of a hot oven with the door shut.}}
"""


@dataclass(frozen=True)
class SmallJob:
    """A folder with pages and two domains."""

    folder: Path

    def settings(self, model: ServedModel, data: Path, **more: object) -> dict[str, object]:
        chosen: dict[str, object] = {
            "data_dir": data,
            "source": self.folder / "pages",
            "domain_dirs": self.folder / "domains",
            "domains": ",".join(DOMAINS),
            "hops": 0,
            "model": "openai/served",
            "embedding_model": "openai/served",
            "api_base": model.url,
            "max_concurrency": IN_FLIGHT,
        }
        return chosen | more


def make_small_job(folder: Path) -> SmallJob:
    write_pages(folder / "pages")
    for name in DOMAINS:
        domain = folder / "domains" / name
        domain.mkdir(parents=True)
        (domain / "domain.yaml").write_text(DOMAIN.format(name=name))
        (domain / "system.j2").write_text(f"You write a {name}.")
        (domain / "prompt.j2").write_text("Persona: {{ persona }}")
    return SmallJob(folder)


def journaled(data: Path) -> Counter[str]:
    """Count the usable answers in the journal files by prompt, as the server counts billed ones."""
    lines = [
        json.loads(line)
        for path in (data / "journal").glob("*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return Counter(
        json.dumps(json.loads(line["request"]), sort_keys=True)
        for line in lines
        if line["status"] == "ok"
    )
