"""Records of a domain that say the same: by their signature, then by their words."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.surface import Resources
from persona_pipeline.domains.spec import Domain
from persona_pipeline.stages import StageRows
from persona_pipeline.store import Store
from persona_pipeline.synthesis import answer_of_record, table_name

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
    """The duplicates among all records of each domain, for this shard and those after it.

    The earlier shard wins, as among personas. `thresholds`: in place of a domain's own.
    """
    line = store.query("select shard, shard_number from corpus.shards order by shard_number")
    number = line.filter(pl.col("shard") == shard)["shard_number"].item()
    later = line.filter(pl.col("shard_number") >= number)["shard"].to_list()
    found = []
    for domain in domains:
        records = store.query(
            f"select records.*, shards.shard_number from {table_name(domain)} as records "
            "inner join corpus.shards using (shard) order by records.record_id"
        )
        threshold = thresholds.get(domain.name, domain.file.dedup.threshold)
        duplicates = find_record_duplicates(domain, records, threshold, resources)
        found += [_of_shard(domain, duplicates, name) for name in later]
    return found


def find_record_duplicates(
    domain: Domain,
    records: pl.DataFrame,
    threshold: float | None,
    resources: Resources | None = None,
) -> pl.DataFrame:
    """One row per record to remove, and because of which.

    Args:
        domain: says what is compared.
        records: shard, shard_number, record_id, text, and the domain's fields.
        threshold: Jaccard similarity of the words; None: only signatures are compared.
        resources: memory and threads.
    """
    compared = [
        domain.render_compared(answer_of_record(domain, row))
        for row in records.iter_rows(named=True)
    ]
    line = records.select("shard", "shard_number", persona_id="record_id")
    signatures = line.with_columns(persona=_texts(compared, 1)).drop_nulls("persona")
    same = find_duplicates(signatures, None, Thresholds(1.0, None), resources=resources)
    same = same.filter(pl.col("layer") == "exact").with_columns(layer=pl.lit("signature"))
    left = line.with_columns(persona=_texts(compared, 0)).join(same, on="persona_id", how="anti")
    parts = [same]
    if threshold is not None:
        parts.append(find_duplicates(left, None, Thresholds(threshold, None), resources=resources))
    named = pl.concat(parts).rename({"persona_id": "record_id"})
    return named.join(records.select("shard", "record_id"), on="record_id").select(
        "shard", *DUPLICATES
    )


def _texts(compared: Sequence[tuple[str, str | None]], side: int) -> pl.Series:
    return pl.Series([both[side] for both in compared], dtype=pl.String)


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
