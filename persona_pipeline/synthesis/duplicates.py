"""Records of a domain that say the same: by their signature, or by their words."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import polars as pl

from persona_pipeline.dedup.duplicates import compare_texts
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.tables import answer_of_record, table_name

STAGE = "record_deduplication"
PAIR = ["first_key", "second_key", "similarity"]
RECORD = ["persona_id", "signature", "sequence_key", "set_key"]
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
    """The duplicates among all records of each domain, for this shard and all that change with it.

    The earlier shard wins, as among personas. `thresholds`: in place of a domain's own.
    """
    matches = []
    for domain in domains:
        with store.connect(read_only=True) as connection:
            records = fetch(
                connection,
                f"select records.*, shards.shard_number from {table_name(domain)} as records "
                "inner join corpus.shards using (shard)",
            )
            query = read_sql("store/stored_duplicates")
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
    """One row per record to remove, and because of which.

    Args:
        domain: says what is compared.
        records: shard, shard_number, record_id, text, and the domain's fields.
        threshold: Jaccard similarity of the words; None: only signatures are compared.
        resources: memory and threads.
    """
    rows = [domain.render_compared(answer_of_record(domain, row)) for row in records.to_dicts()]
    texts, signatures = ([row[side] for row in rows] for side in (0, 1))
    ranked = records.select("shard", "shard_number", persona_id="record_id").with_columns(
        persona=pl.Series(texts, dtype=pl.String)
    )
    resources = resources or Resources()
    comparison = Comparison(threshold or 1.0, min_cosine=None)
    fingerprints, pairs = compare_texts(ranked, None, comparison, resources)
    ordered = fingerprints.with_columns(signature=pl.Series(signatures, dtype=pl.String)).sort(
        "shard_number", "text_key", "persona_id"
    )
    removed = _keep_first(ordered, pairs, threshold)
    matches = pl.DataFrame(removed, schema=DUPLICATES, orient="row")
    return matches.join(records.select("shard", "record_id"), on="record_id").select(
        "shard", *DUPLICATES
    )


def _keep_first(
    ordered: pl.DataFrame, pairs: pl.DataFrame, threshold: float | None
) -> list[tuple[str, str, str, float, float]]:
    """Down the line, a record stays unless one that stayed has its signature, or is like it."""
    similar = defaultdict[int, list[tuple[int, float]]](list)
    for first, second, similarity in pairs.select(PAIR).iter_rows():
        similar[first].append((second, similarity))
        similar[second].append((first, similarity))
    signed, kept, removed = dict[str, str](), dict[int, tuple[str, int]](), []
    for record, signature, sequence, words in ordered.select(RECORD).iter_rows():
        matches = [("signature", 1.0, signed[signature])] if signature in signed else []
        if threshold is not None:
            if words in kept:
                keeper, its_sequence = kept[words]
                matches.append(("exact" if its_sequence == sequence else "jaccard", 1.0, keeper))
            near = [(similarity, kept[key][0]) for key, similarity in similar[words] if key in kept]
            matches += [("jaccard", *max(near))] if near else []
        if matches:
            layer, similarity, keeper = matches[0]
            removed.append((record, keeper, layer, similarity, threshold or 1.0))
            continue
        kept[words] = (record, sequence)
        if signature is not None:
            signed[signature] = record
    return removed


def _differing(rows: pl.DataFrame, others: pl.DataFrame) -> list[str]:
    """The shards of rows that the others do not have."""
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
