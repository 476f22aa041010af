"""How the cost of a run grows with the documents, and with shards that have nothing to do.

    uv run python benchmarks/growth.py                # 5,000 and 50,000 documents, 5,000 more
    uv run python benchmarks/growth.py --shards         # one new shard beside 10, and beside 1,000
    uv run python benchmarks/growth.py --shards --base v0.1    # the same with an older build

The pages are made of random words, each distinct, in one file of JSON lines. `fake/demo` answers.
"""

import argparse
import json
import math
import random
import tempfile
from contextlib import nullcontext
from pathlib import Path

from calls import tell
from pipeline import ROOT, Cost, checked_out, run

DOCUMENTS, GROWTH = 5000, 10
WORDS_PER_PAGE = 150
FEW_SHARDS, MANY_SHARDS = 10, 1000


def write_pages(path: Path, count: int) -> None:
    """Write `count` distinct pages; those of a smaller count come first."""
    rng = random.Random(0)  # noqa: S311 - not secret
    syllables = [first + last for first in "bdfgklmnprstvz" for last in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(20_000)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            chosen = rng.choices(words, k=WORDS_PER_PAGE)
            sentences = [" ".join(chosen[at : at + 10]) for at in range(0, WORDS_PER_PAGE, 10)]
            page = {
                "url": f"https://example.org/{number}",
                "title": " ".join(chosen[:3]),
                "text": "".join(f"The {sentence}. " for sentence in sentences),
            }
            file.write(json.dumps(page) + "\n")


def show_documents(build: Path, folder: Path) -> None:
    """Print what a first run costs for few and for many documents, and for some more."""
    pages, many = folder / "pages.jsonl", DOCUMENTS * GROWTH
    write_pages(pages, many + DOCUMENTS)
    few = _tell(f"{DOCUMENTS:,} documents", run(build, folder / "few", DOCUMENTS, pages))
    all_of_them = _tell(f"{many:,} documents", run(build, folder / "many", many, pages))
    more = _tell(f"{DOCUMENTS:,} more", run(build, folder / "many", many + DOCUMENTS, pages))
    exponent = math.log(all_of_them.cpu_s / few.cpu_s) / math.log(GROWTH)
    tell(f"CPU-seconds grow with exponent {exponent:.3f}")
    tell(f"peak memory grows {all_of_them.peak_mb / few.peak_mb:.2f} times")
    tell(f"a tenth more costs {more.cpu_s / all_of_them.cpu_s:.3f} of from scratch")


def show_shards(build: Path, folder: Path) -> None:
    """Print what one new shard costs beside few and beside many that have nothing to do."""
    pages, costs = folder / "pages.jsonl", {}
    write_pages(pages, MANY_SHARDS + 1)
    settings = {
        "PERSONA_PIPELINE_SHARD_SIZE": "1",
        "PERSONA_PIPELINE_DOMAINS": '["math"]',
        "PERSONA_PIPELINE_SHARDS_PER_RUN": "100",
    }
    for count in (FEW_SHARDS, MANY_SHARDS):
        data = folder / str(count)
        _tell(f"{count:,} shards, first", run(build, data, count, pages, settings))
        _tell(f"{count:,} shards again", run(build, data, count, pages, settings))
        costs[count] = _tell("one shard more", run(build, data, count + 1, pages, settings))
    ratio = costs[MANY_SHARDS].cpu_s / costs[FEW_SHARDS].cpu_s
    tell(f"one shard more beside {MANY_SHARDS:,} costs {ratio:.2f} of beside {FEW_SHARDS}")


def _tell(what: str, cost: Cost) -> Cost:
    tell(f"{what:22} {cost}")
    return cost


def main() -> None:
    """Show the growth with documents, or with shards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", action="store_true", help="shards, not documents")
    parser.add_argument("--base", help="a commit to measure instead of this build")
    options = parser.parse_args()
    show = show_shards if options.shards else show_documents
    build = checked_out(options.base) if options.base else nullcontext(ROOT)
    with tempfile.TemporaryDirectory() as folder, build as path:
        show(path, Path(folder))


if __name__ == "__main__":
    main()
