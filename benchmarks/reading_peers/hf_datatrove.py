# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = ["datatrove[io,processing]==0.10.1"]
# ///
"""datatrove's readers, and its extractor of main text for HTML, in this process."""

import json
import resource
import sys
import time
from pathlib import Path

from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.readers import JsonlReader, WarcReader
from loguru import logger

logger.remove()


def main() -> None:
    """Read one file; print how many documents there are, of how many characters."""
    path = Path(sys.argv[1])
    started = time.perf_counter()
    is_archive = path.name.endswith(".warc.gz")
    is_html = is_archive or path.name.endswith("-html.jsonl")
    folder, name = str(path.parent), path.name
    if is_archive:
        reader = WarcReader(folder, glob_pattern=name)
    else:
        reader = JsonlReader(folder, glob_pattern=name, text_key="html" if is_html else "text")
    rows = reader(None, 0, 1)
    documents = characters = 0
    for row in Trafilatura()(rows) if is_html else rows:
        documents += 1
        characters += len(row.text)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in used)
    seconds = time.perf_counter() - started
    print(json.dumps({"documents": documents, "characters": characters, "cpu": cpu, "s": seconds}))


if __name__ == "__main__":
    main()
