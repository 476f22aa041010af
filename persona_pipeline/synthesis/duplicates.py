"""Find the records of a domain that say the same, by their signature or by their words."""

from collections.abc import Iterable, Mapping
from typing import Final

import polars as pl

from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.words.word_sets import hash_texts
from persona_pipeline.sql import fetch
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.tables import answer_of_record, table_name

STAGE = "record_deduplication"
DUPLICATES = {
    "record_id": pl.String(),
    "kept_id": pl.String(),
    "layer": pl.String(),
    "similarity": pl.Float64(),
    "threshold": pl.Float64(),
}


def deduplicate_records(
    store: Store,
    domains: Iterable[Domain],
    thresholds: Mapping[str, float | None],
    shard: str,
    resources: Resources | None = None,
) -> list[StageRows]:
    """Return the duplicates of each domain, for this shard and all that change with it.

    All records of a domain are compared. The earlier shard wins, as among personas. `thresholds`
    has, by a domain's name, a threshold in place of its own.
    """
    matches = []
    for domain in domains:
        with store.connect(read_only=True) as connection:
            records = fetch(
                connection,
                f"select records.*, shards.shard_number from {table_name(domain)} as records "
                "inner join corpus.shards using (shard)",
            )
            query = STORED_SQL
            stored = fetch(connection, query, {"domain": domain.name})
        threshold = thresholds.get(domain.name, domain.file.dedup.threshold)
        duplicates = find_record_duplicates(domain, records, threshold, resources)
        changed = {*_differing(duplicates, stored), *_differing(stored, duplicates), shard}
        matches += [_of_shard(domain, duplicates, name) for name in sorted(changed)]
    return matches


def find_record_duplicates(
    domain: Domain,
    records: pl.DataFrame,
    threshold: float | None,
    resources: Resources | None = None,
) -> pl.DataFrame:
    """Return one row per record to remove, and because of which.

    A record stays unless one that stayed before it has its signature or similar words. The ranking
    is that of `find_duplicates`: the earlier shard, then a hash of the text, then the id. The
    keeper is the one of the same signature, else the most similar one by words. Of equally similar
    ones, it is the first in the ranking.

    Args:
        domain: says what is compared.
        records: shard, shard_number, record_id, text, and the domain's fields.
        threshold: Jaccard similarity of the words; None: only signatures are compared.
        resources: memory and threads.

    Returns:
        shard, record_id, kept_id, layer (signature, exact or jaccard), similarity (1 of a
        signature) and threshold (that of the words in each layer, 1 without one).
    """
    compared = [domain.render_compared(answer_of_record(domain, row)) for row in records.to_dicts()]
    texts, signatures = (
        pl.Series([row[side] for row in compared], dtype=pl.String) for side in (0, 1)
    )
    ranked = (
        records.select("shard", "shard_number", "record_id")
        .with_columns(text=texts, signature=signatures, text_hash=hash_texts(texts))
        .sort("shard_number", "text_hash", "record_id")
        .with_row_index("place")
    )
    duplicates = find_duplicates(
        ranked,
        id="record_id",
        text=None if threshold is None else "text",
        rank="place",
        keys=("signature",),
        thresholds=Thresholds(threshold or 1.0, cosine=None),
        resources=resources,
    )
    removed = duplicates.removed.with_columns(threshold=pl.lit(threshold or 1.0))
    return removed.join(ranked, on="record_id", maintain_order="left").select("shard", *DUPLICATES)


STORED_SQL: Final = """
-- One row per record of a domain that is removed as a duplicate.
-- reads: synthetic.duplicates   params: $domain
select shard, record_id, kept_id, layer, similarity, threshold
from synthetic.duplicates
where domain = $domain
"""


def _differing(rows: pl.DataFrame, others: pl.DataFrame) -> list[str]:
    """Return the shards of rows that the others do not have."""
    return rows.join(others, on=["shard", *DUPLICATES], how="anti")["shard"].unique().to_list()


def _of_shard(domain: Domain, duplicates: pl.DataFrame, shard: str) -> StageRows:
    return StageRows(
        shard=shard,
        stage=STAGE,
        tables={
            "synthetic.duplicates": duplicates.filter(pl.col("shard") == shard)
            .drop("shard")
            .with_columns(domain=pl.lit(domain.name))
        },
        scope={"synthetic.duplicates": ("domain", domain.name)},
    )
