"""Find the records of a domain that say the same, by their signature or by their words."""

from collections.abc import Iterable, Mapping
from typing import Final

import polars as pl

from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.words.word_sets import hash_texts
from persona_pipeline.sql import fetch
from persona_pipeline.stage_names import RECORD_DEDUPLICATION
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.tables import answer_of_record, table_name

STAGE = RECORD_DEDUPLICATION
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
    shards: Iterable[str],
    resources: Resources | None = None,
) -> list[StageRows]:
    """Return the duplicates of each domain, for these shards and for those that change with them.

    All records of a domain are compared. The earlier shard wins, as among personas.

    Args:
        store: the database with the records of all shards.
        domains: the domains to deduplicate.
        thresholds: Jaccard similarities by a domain's name, which replace the domain's own.
        shards: the shards whose rows are returned in any case.
        resources: memory and threads.
    """
    stage_rows = []
    for domain in domains:
        with store.connect(read_only=True) as connection:
            records = fetch(
                connection,
                f"select records.*, shards.shard_number from {table_name(domain)} as records "
                "inner join corpus.shards using (shard)",
            )
            stored = fetch(connection, STORED_SQL, {"domain": domain.name})
        threshold = thresholds.get(domain.name, domain.file.dedup.threshold)
        duplicates = find_record_duplicates(domain, records, threshold, resources)
        changed = {*_differing(duplicates, stored), *_differing(stored, duplicates), *shards}
        stage_rows += [_of_shard(domain, duplicates, name) for name in sorted(changed)]
    return stage_rows


def find_record_duplicates(
    domain: Domain,
    records: pl.DataFrame,
    threshold: float | None,
    resources: Resources | None = None,
) -> pl.DataFrame:
    """Return one row per record to remove, with the record that is kept instead.

    A record is removed if one that ranks before it is kept and has its signature or similar words.
    Records rank by shard, then by a hash of the text, then by id. The keeper is the record of the
    same signature, or else the most similar one by words. Of equally similar records, the first in
    the ranking is the keeper.

    Args:
        domain: the domain, whose file says what is compared.
        records: shard, shard_number, record_id, text, and the domain's fields.
        threshold: Jaccard similarity of the words; None: only signatures are compared.
        resources: memory and threads.

    Returns:
        One row per removed record: shard, record_id, kept_id, layer (signature, exact or jaccard),
        similarity (1 for the same signature) and threshold (that of the words in each layer; 1
        without one).
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
    """Return the shards of the rows that are not among the others."""
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
