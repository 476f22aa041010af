"""Our readers, with extraction, normal form and lengths, in this process."""

import json
import resource
import sys
import time

from persona_pipeline.corpus.document import Document
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.sources import read_source


def main() -> None:
    """Read one file; print how many documents there are, of how many characters."""
    started = time.perf_counter()
    documents = characters = 0
    for row in read_source(sys.argv[1], CorpusOptions(min_chars=1)):
        if isinstance(row, Document):
            documents += 1
            characters += len(row.text)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu, seconds = used.ru_utime + used.ru_stime, time.perf_counter() - started
    print(json.dumps({"documents": documents, "characters": characters, "cpu": cpu, "s": seconds}))


if __name__ == "__main__":
    main()
