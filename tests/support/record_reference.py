"""Find duplicate records by a walk down the ranking in plain Python, as a reference."""

from collections import defaultdict
from dataclasses import dataclass

import polars as pl

from persona_pipeline.dedup.comparison import compare_texts
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison


@dataclass(frozen=True, slots=True)
class Removed:
    """A removed record, and all kept records that are its nearest in the layer."""

    record_id: str
    keepers: tuple[str, ...]
    """In the order of the ranking. There are several only if they are equally similar."""
    layer: str
    similarity: float
    threshold: float


def keep_first(
    records: list[tuple[str, int, str, str | None]], threshold: float | None
) -> list[Removed]:
    """Walk down the ranking of records (id, shard number, text, signature), sorted by their ids."""
    table = pl.DataFrame(
        [(record, shard, text) for record, shard, text, _ in records],
        schema={"id": pl.String, "rank": pl.Int64, "text": pl.String},
        orient="row",
    )
    comparison = Comparison(threshold or 1.0, min_cosine=None)
    fingerprints, pairs = compare_texts(table, None, comparison, Resources())
    similar = defaultdict[int, list[tuple[int, float]]](list)
    for first, second, similarity in pairs.select(
        "first_key", "second_key", "similarity"
    ).iter_rows():
        similar[first].append((second, similarity))
        similar[second].append((first, similarity))
    signature_of = {record: signature for record, _, _, signature in records}
    ordered = fingerprints.sort("rank", "text_key", "id").select("id", "sequence_key", "set_key")
    signed, kept = dict[str, str](), dict[int, tuple[str, int]]()
    places, removed = dict[str, int](), list[Removed]()
    for place, (record, sequence, words) in enumerate(ordered.iter_rows()):
        signature, level = signature_of[record], threshold or 1.0
        near = [(score, kept[key][0]) for key, score in similar[words] if key in kept]
        places[record] = place
        if signature in signed:
            keepers, layer, similarity = [signed[signature]], "signature", 1.0
        elif threshold is not None and words in kept:
            keeper, its_sequence = kept[words]
            layer = "exact" if its_sequence == sequence else "jaccard"
            keepers, similarity = [keeper], 1.0
        elif threshold is not None and near:
            similarity, layer = max(near)[0], "jaccard"
            keepers = [keeper for score, keeper in near if score == similarity]
        else:
            kept[words] = (record, sequence)
            if signature is not None:
                signed[signature] = record
            continue
        keepers = sorted(keepers, key=places.__getitem__)
        removed.append(Removed(record, tuple(keepers), layer, similarity, level))
    return sorted(removed, key=lambda each: each.record_id)
