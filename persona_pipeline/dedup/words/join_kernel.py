"""Turn word codes into keys and pairs: the hot loops of `join.py`, compiled by Numba."""

from typing import Any

import numpy as np

from persona_pipeline.dedup.compiling import compiled, inlined
from persona_pipeline.dedup.words.join_keys import INDEX, PROBE
from persona_pipeline.dedup.words.word_sets_kernel import U, mix64

STEP = U(0x9E3779B97F4A7C15)
"""An odd number without a pattern: the codes of a key are digits to this base."""


@compiled
def count_keys(starts: Any, key_starts: Any) -> int:
    """Count the keys of all sets: `key_starts[size]` is where the keys of a size start."""
    total = 0
    for row in range(len(starts) - 1):
        size = starts[row + 1] - starts[row]
        total += key_starts[size + 1] - key_starts[size]
    return total


@inlined
def hash_key(codes: Any, start: int, places: Any, number: int, level: int) -> Any:
    """Return the key made of the codes at the places of key `number` of the table."""
    key = U(level)
    for word in range(level):
        key = key * STEP + codes[start + places[number, word]]
    return mix64(key)


@compiled
def write_keys(
    codes: Any,
    starts: Any,
    key_starts: Any,
    places: Any,
    levels: Any,
    roles: Any,
    passes: int,
    number: int,
    keys: Any,
    rows: Any,
    key_roles: Any,
) -> int:
    """Write the keys that belong to this pass, and return their number.

    The number is the same when the arrays are too short for it.
    A key's role carries its level, from the third bit on.
    """
    total = 0
    for row in range(len(starts) - 1):
        size = starts[row + 1] - starts[row]
        for entry in range(key_starts[size], key_starts[size + 1]):
            key = hash_key(codes, starts[row], places, entry, levels[entry])
            if passes > 1 and np.int64((key >> U(20)) & U(0xFFFF)) % passes != number:
                continue
            if total < len(keys):
                keys[total] = key
                rows[total] = row
                key_roles[total] = roles[entry] | (levels[entry] << 2)
            total += 1
    return total


@compiled
def mark_keys(keys: Any, bits: Any) -> None:
    """Set two bits per key of a Bloom filter, which has a power of two of 64-bit words."""
    mask = U(len(bits) * 64 - 1)
    for key in keys:
        for at in (key & mask, (key >> U(32)) & mask):
            bits[at >> U(6)] |= U(1) << (at & U(63))


@compiled
def mark_common(left: Any, right: Any, matches: Any) -> None:
    """Mark which keys of `left` are in `right`, too; both are sorted."""
    at = 0
    for number in range(len(left)):
        while at < len(right) and right[at] < left[number]:
            at += 1
        if at < len(right) and right[at] == left[number]:
            matches[number] = True


@compiled
def partition_keys(keys: Any, rows: Any, roles: Any, bits: int, outputs: Any) -> Any:
    """Group the keys by their top bits, into the outputs; return where each group starts."""
    sorted_keys, sorted_rows, sorted_roles = outputs
    shift = U(64 - bits)
    starts = np.zeros((1 << bits) + 1, np.int64)
    for key in keys:
        starts[np.int64(key >> shift) + 1] += 1
    starts = starts.cumsum()
    following = starts[:-1].copy()
    for number in range(len(keys)):
        group = np.int64(keys[number] >> shift)
        place = following[group]
        following[group] += 1
        sorted_keys[place] = keys[number]
        sorted_rows[place] = rows[number]
        sorted_roles[place] = roles[number]
    return starts


@inlined
def count_shared(codes: Any, left: int, left_end: int, right: int, right_end: int) -> int:
    """Return how many codes two sorted runs have in common."""
    shared = 0
    while left < left_end and right < right_end:
        a, b = codes[left], codes[right]
        shared += a == b
        left += a <= b
        right += b <= a
    return shared


@inlined
def count_shared_at(
    codes: Any, left: int, left_end: int, right: int, right_end: int, key: Any, level: int
) -> int:
    """Return how many codes two sorted runs share, or 0 where the first ones make another key.

    Two similar sets share many keys; only at that of their first common codes are they a pair.
    """
    shared, first = 0, U(level)
    while left < left_end and right < right_end:
        a, b = codes[left], codes[right]
        if a == b and shared < level:
            first = first * STEP + a
            if shared == level - 1 and mix64(first) != key:
                return 0
        shared += a == b
        left += a <= b
        right += b <= a
    return shared


@compiled
def sign_sets(codes: Any, starts: Any, signatures: Any) -> None:
    """Write 64 bits per set, of which each word sets one."""
    for row in range(len(starts) - 1):
        signature = U(0)
        for number in range(starts[row], starts[row + 1]):
            signature |= U(1) << (codes[number] & U(63))
        signatures[row] = signature


@inlined
def count_bits(x: Any) -> int:
    """Return how many bits are set."""
    x -= (x >> U(1)) & U(0x5555555555555555)
    x = (x & U(0x3333333333333333)) + ((x >> U(2)) & U(0x3333333333333333))
    x = (x + (x >> U(4))) & U(0x0F0F0F0F0F0F0F0F)
    return int((x * U(0x0101010101010101)) >> U(56))


@inlined
def may_be_similar(both: int, mark: Any, other_mark: Any, overlap: float) -> bool:
    """Return whether sets of `both` words together can be similar, by their signatures."""
    return bool(both - count_bits(mark ^ other_mark) >= 2 * (overlap * both - 1e-7))


@inlined
def put_pair(pairs: Any, shared: Any, at: int, rows: Any, common: int) -> None:
    """Write a pair where there is room."""
    if at < len(pairs):
        pairs[at, 0], pairs[at, 1] = rows
        shared[at] = common


@inlined
def bit_width(power: int) -> int:
    """Return the exponent of a power of two."""
    width = 0
    while power > 1:
        power >>= 1
        width += 1
    return width


@inlined
def mark_hot(keys: Any, rows: Any, roles: Any, lengths: Any, limit: int, hot: Any) -> None:
    """Mark the INDEX sets of slots that are too long; their PROBE sets are marked already."""
    for number in range(len(keys)):
        slot = np.int64(keys[number]) & (len(lengths) - 1)
        if roles[number] & INDEX and lengths[slot] > limit:
            hot[rows[number]] = True


@inlined
def count_slots(keys: int) -> int:
    """Return a power of two, so that few of this many keys share a slot."""
    slots = 16
    while slots < keys:
        slots *= 2
    return slots


@inlined
def count_similar(
    compared: Any, row: int, other: int, key: Any, level: int, min_similarity: float
) -> int:
    """Return how many words a set and a smaller one share; 0: not similar, or not at this key."""
    codes, starts, _, is_new = compared
    if not (is_new[row] or is_new[other]):
        return 0
    start, end, first, last = starts[row], starts[row + 1], starts[other], starts[other + 1]
    common = count_shared_at(codes, start, end, first, last, key, level)
    both = end - start + last - first
    return common if common / (both - common) >= min_similarity else 0


@compiled
def index_keys(keys: Any, bits: Any, groups: Any) -> None:
    """Mark the top bits of each sorted key in a bitmap, and where each of the groups starts."""
    slot_shift, group_shift = U(64 - bit_width(len(bits)) - 6), U(64 - bit_width(len(groups) - 1))
    group = 0
    for number in range(len(keys)):
        slot = keys[number] >> slot_shift
        bits[slot >> U(6)] |= U(1) << (slot & U(63))
        while group <= np.int64(keys[number] >> group_shift):
            groups[group] = number
            group += 1
    groups[group:] = len(keys)


@compiled
def find_near(known: Any, starts: Any, new: Any, min_similarity: float, matches: Any) -> None:
    """Mark the known sets that share a key with a new one and can be similar.

    Size and signature say whether they can be.

    `known`: their sorted keys, the set of each key, the signature of each set, and `starts` where
    the sets start. `new`: the bitmap and the groups of the sorted keys of the new sets, the keys,
    size and signature of the set of each. Sorted keys pass the bitmap from one end to the other,
    so that it need not be in the cache.
    """
    keys, rows, signatures = known
    bits, groups, new_keys, new_sizes, new_signatures = new
    slot_shift, group_shift = U(64 - bit_width(len(bits)) - 6), U(64 - bit_width(len(groups) - 1))
    overlap = min_similarity / (1 + min_similarity)
    for number in range(len(keys)):
        key, row = keys[number], rows[number]
        slot = key >> slot_shift
        if not (bits[slot >> U(6)] >> (slot & U(63))) & U(1) or matches[row]:
            continue
        size, group = starts[row + 1] - starts[row], np.int64(key >> group_shift)
        for at in range(groups[group], groups[group + 1]):
            both = size + new_sizes[at]
            is_like = min(size, new_sizes[at]) >= overlap * both - 1e-7
            if is_like and new_keys[at] == key:
                matches[row] |= may_be_similar(both, signatures[row], new_signatures[at], overlap)


@compiled
def join_group(
    keys: Any,
    rows: Any,
    roles: Any,
    compared: Any,
    rules: Any,
    pairs: Any,
    shared: Any,
    hot: Any,
) -> int:
    """Find the similar pairs among the sets of one group of keys, at most once for each level.

    The sets stand in order of their size, so a set meets only smaller ones before it, the larger of
    these first. What a comparison needs first, size and signature, stands beside the keys: 4 ns a
    candidate instead of 20. Pairs of which none is new are left out: a known set meets new ones
    only.

    `rules`: the least similarity; the sets of a key above which these are marked in `hot`, and
    give no more pairs; the pairs above which the search ends; whether there are known sets.

    Returns how many pairs there are, also when the arrays are too short.
    """
    _, starts, signatures, is_new = compared
    min_similarity, limit, most, has_known = rules
    slots = count_slots(len(keys))
    heads = np.full(2 * slots if has_known else slots, -1, np.int32)  # of new sets, of known ones
    lengths = np.zeros(slots, np.int32)
    following, sizes = np.empty(len(keys), np.int32), np.empty(len(keys), np.int64)
    marks = np.empty(len(keys), np.uint64)
    overlap = min_similarity / (1 + min_similarity)
    total, is_hot = 0, False
    for number in range(len(keys)):
        key, row = keys[number], rows[number]
        slot, size, mark = (
            np.int64(key) & (slots - 1),
            starts[row + 1] - starts[row],
            signatures[row],
        )
        is_known = has_known and not is_new[row]
        if roles[number] & PROBE:
            least, end = min_similarity * size - 1e-7, slots if is_known else len(heads)
            if lengths[slot] > limit:
                hot[row] = is_hot = True
                end = 0
            for chain in range(slot, end, slots):
                at = heads[chain]
                while at >= 0 and sizes[at] >= least:
                    both = size + sizes[at]
                    if keys[at] == key and may_be_similar(both, mark, marks[at], overlap):
                        level = roles[number] >> 2
                        common = count_similar(compared, row, rows[at], key, level, min_similarity)
                        if common > 0:
                            put_pair(pairs, shared, total, (row, rows[at]), common)
                            total += 1
                    at = following[at]
            if total > most:
                return total
        if roles[number] & INDEX:
            own = slot + slots if is_known else slot
            following[number], sizes[number], marks[number] = heads[own], size, mark
            heads[own], lengths[slot] = number, lengths[slot] + 1
    if is_hot:
        mark_hot(keys, rows, roles, lengths, limit, hot)
    return total
