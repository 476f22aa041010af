"""Turn word codes into signatures, bands and pairs: the hot loops of `minhash.py`, compiled."""

from typing import Any

import numpy as np

from persona_pipeline.dedup.compiling import compiled, inlined
from persona_pipeline.dedup.words.join_kernel import count_shared
from persona_pipeline.dedup.words.word_sets_kernel import HASH_MASK, U, mix64

HASHES = 128
GOLDEN = U(0x9E3779B97F4A7C15)
MULTIPLIERS = mix64(np.arange(1, HASHES + 1, dtype=U) * GOLDEN) | U(1)
"""The first numbers of splitmix64 from seed 0, made odd. Measured on pairs of random sets: the
variance of the share of equal hashes is 1.00 to 1.02 of that of independent hashes."""


@inlined
def sign(codes: Any, start: int, end: int, signature: Any) -> None:
    """Write the least value of each hash over a set's words: the upper half of word * multiplier.

    A word is the low 56 bits of its code: the others depend on the vocabulary.
    """
    signature[:] = np.uint32(0xFFFFFFFF)
    for at in range(start, end):
        word = codes[at] & HASH_MASK
        for number in range(HASHES):
            value = np.uint32((word * MULTIPLIERS[number]) >> U(32))
            signature[number] = min(signature[number], value)


@compiled
def write_signatures(codes: Any, starts: Any, signatures: Any) -> None:
    """Write the signature of each set."""
    for row in range(len(starts) - 1):
        sign(codes, starts[row], starts[row + 1], signatures[row])


@compiled
def write_band_keys(codes: Any, starts: Any, hashes: int, keys: Any) -> None:
    """Write the key of each band of each set; a band has `hashes` hashes of its own."""
    signature = np.empty(HASHES, np.uint32)
    for row in range(len(starts) - 1):
        sign(codes, starts[row], starts[row + 1], signature)
        for band in range(keys.shape[1]):
            key = U(band)
            for number in range(band * hashes, (band + 1) * hashes):
                key = mix64(key ^ U(signature[number]))
            keys[row, band] = key


@inlined
def share_earlier_band(keys: Any, row: int, other: int, band: int) -> bool:
    """Return whether an earlier band has the pair."""
    earlier = 0
    while earlier < band and keys[row, earlier] != keys[other, earlier]:
        earlier += 1
    return earlier < band


@inlined
def estimate(signature: Any, other: Any) -> Any:
    """Return the share of hashes that are equal."""
    equal = 0
    for number in range(HASHES):
        equal += signature[number] == other[number]
    return equal / HASHES


@inlined
def jaccard(codes: Any, starts: Any, row: int, other: int, least: float) -> Any:
    """Return the Jaccard similarity of two sets, or 0 where their sizes exclude `least`."""
    size, width = starts[row + 1] - starts[row], starts[other + 1] - starts[other]
    if min(size, width) < least * max(size, width) - 1e-7:
        return 0.0
    shared = count_shared(codes, starts[row], starts[row + 1], starts[other], starts[other + 1])
    return shared / (size + width - shared)


@compiled
def join_band(
    keys: Any,
    band: int,
    order: Any,
    at: int,
    codes: Any,
    starts: Any,
    signatures: Any,
    new: int,
    min_similarity: float,
    pairs: Any,
    similarities: Any,
) -> Any:
    """Find pairs whose first common band is this one, as many as the arrays hold.

    `order` are the rows sorted by their key in the band, and by number: new ones, before `new`,
    come first, and two others are not compared. `at` is the first place whose row is compared
    with those before it. Returns where to go on, and how many pairs were written: arrays as long
    as `order` always hold those of one row. Without signatures, similarity is the true one.
    """
    first, matches = at, 0
    while first > 0 and keys[order[first - 1], band] == keys[order[at], band]:
        first -= 1
    while at < len(order):
        row = order[at]
        if keys[row, band] != keys[order[first], band]:
            first = at
        if matches + at - first > len(pairs):
            break
        for place in range(first, at):
            other = order[place]
            if row >= new and other >= new:
                break
            if share_earlier_band(keys, row, other, band):
                continue
            if len(signatures):
                similarity = estimate(signatures[row], signatures[other])
            else:
                similarity = jaccard(codes, starts, row, other, min_similarity)
            if similarity >= min_similarity:
                pairs[matches, 0] = row
                pairs[matches, 1] = other
                similarities[matches] = similarity
                matches += 1
        at += 1
    return at, matches
