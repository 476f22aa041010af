r"""What a word is, for every layer that compares words.

The rule is `[\p{L}\p{M}\p{N}_]+` over the lower-case NFC text, and it lives in
`sql/dedup/normalized.sql` only: Python, Rust and RE2 disagree on `\w`, so two copies would drift.
Writing without spaces (Chinese, Japanese, Thai) is one word up to the next punctuation mark: the
surface layer then finds only personas made of the same clauses, and the semantic layer does the
rest. An emoji is no word.
"""

import polars as pl

from persona_pipeline.dedup.scratch import Scratch
from persona_pipeline.hashing import stable_id

TOKENIZER_VERSION = 1
"""Goes up with every change of the rule: priorities and duplicates may differ from then on."""


def normalize_candidates(scratch: Scratch, candidates: pl.DataFrame) -> None:
    """Fills `normalized` with one row per candidate, and `priorities` with its place in line.

    Lower shard number first, then a hash of the normalized text, then the id: whoever comes first
    is kept. The order depends on the rows alone, never on how they arrive.
    """
    scratch.load("candidates", candidates)
    scratch.create("normalized")
    rows = scratch.fetch("select persona_id, shard_number, normalized_text from normalized")
    hashes = [stable_id(text) for text in rows["normalized_text"]]
    ordered = rows.with_columns(pl.Series("text_hash", hashes, dtype=pl.String)).sort(
        "shard_number", "text_hash", "persona_id"
    )
    priorities = ordered.select("persona_id").with_row_index("priority")
    scratch.load("priorities", priorities.cast({"priority": pl.Int64}))
