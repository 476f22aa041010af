"""Turn texts into word codes: the hot loops of `word_sets.py`.

A word is a 64-bit code: its frequency class in the top 8 bits, 56 bits of its hash below, so that
the order of the codes is rare first, and a merge compares codes only.
"""

from typing import Any, Final

import numpy as np

from persona_pipeline.dedup.compiling import compiled, inlined
from persona_pipeline.dedup.words.characters import IGNORED, SPACELESS, WORD

U: Final = np.uint64
START, PRIME = U(14695981039346656037), U(1099511628211)
"""FNV-1a, 64 bits."""
HASH_BITS: Final = 56
"""Bits of a word's hash in its code: any two of 2 million words collide with probability 3e-5."""
HASH_MASK = U((1 << HASH_BITS) - 1)
INSERTION_SORT = 48
"""The most words that an insertion sort gets; longer texts take NumPy's sort."""


@inlined
def mix64(x: Any) -> Any:
    """Mix 64 bits: a bijection in which every bit of the input moves every bit of the output.

    The finalizer of splitmix64.
    """
    x ^= x >> U(30)
    x *= U(0xBF58476D1CE4E5B9)
    x ^= x >> U(27)
    x *= U(0x94D049BB133111EB)
    x ^= x >> U(31)
    return x


@inlined
def decode(data: Any, at: int) -> Any:
    """Return the code point at this byte of valid UTF-8, and where the next one starts."""
    first = np.uint32(data[at])
    if first < 0x80:
        return first, at + 1
    second = np.uint32(data[at + 1] & 0x3F)
    if first < 0xE0:
        return ((first & 0x1F) << 6) | second, at + 2
    third = np.uint32(data[at + 2] & 0x3F)
    if first < 0xF0:
        return ((first & 0x0F) << 12) | (second << 6) | third, at + 3
    fourth = np.uint32(data[at + 3] & 0x3F)
    return ((first & 0x07) << 18) | (second << 12) | (third << 6) | fourth, at + 4


@compiled
def find_composable(data: Any, offsets: Any, first: int, matches: Any) -> None:
    """Mark the texts that have a byte from `first` on."""
    for row in range(len(offsets) - 1):
        for at in range(offsets[row], offsets[row + 1]):
            if data[at] >= first:
                matches[row] = True
                break


@compiled
def hash_bytes(data: Any, offsets: Any, salt: int, hashes: Any) -> None:
    """Write one hash per text, of its bytes."""
    for row in range(len(offsets) - 1):
        state = START ^ U(salt)
        for at in range(offsets[row], offsets[row + 1]):
            state = (state ^ U(data[at])) * PRIME
        hashes[row] = mix64(state)


@compiled
def hash_words(data: Any, start: int, end: int, classes: Any, lower: Any, words: Any) -> int:
    """Write the hash of each word of the text in data[start:end], in order; return how many.

    A run of a script without spaces gives each pair of neighbours, or its only character.
    """
    count, state, previous, run = 0, START, START, 0
    kind, at = 0, start
    while at < end:
        point, at = decode(data, at)
        if point < len(lower):
            point = lower[point]
        now = classes[point]
        if now == IGNORED:
            continue
        if now != kind:
            if kind == WORD or (kind == SPACELESS and run == 1):
                words[count] = mix64(state)
                count += 1
            kind, state, run = now, START, 0
        if now == WORD:
            state = (state ^ U(point)) * PRIME
        elif now == SPACELESS:
            if run > 0:
                words[count] = mix64((previous ^ U(point)) * PRIME)
                count += 1
            previous = (START ^ U(point)) * PRIME
            state = previous
            run += 1
    if kind == WORD or (kind == SPACELESS and run == 1):
        words[count] = mix64(state)
        count += 1
    return count


@compiled
def count_words(data: Any, offsets: Any, classes: Any, lower: Any, table: Any, counts: Any) -> None:
    """Count each word in an open-addressed table whose length is a power of two.

    When three quarters of it are taken, further words are left out: they count as rare.
    """
    mask, free = len(table) - 1, len(table) * 3 // 4
    words = np.empty(16, np.uint64)
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        if end - start >= len(words):
            words = np.empty(2 * (end - start), np.uint64)
        for number in range(hash_words(data, start, end, classes, lower, words)):
            slot = np.int64(words[number]) & mask
            while counts[slot] != 0 and table[slot] != words[number]:
                slot = (slot + 1) & mask
            if counts[slot] == 0:
                if free == 0:
                    continue
                free -= 1
                table[slot] = words[number]
            counts[slot] += 1


@inlined
def sort_distinct(codes: Any, start: int, count: int) -> int:
    """Sort codes[start:start + count] and drop repeats; return how many stay."""
    if count > INSERTION_SORT:
        codes[start : start + count] = np.sort(codes[start : start + count])
    else:
        for number in range(start + 1, start + count):
            code, place = codes[number], number - 1
            while place >= start and codes[place] > code:
                codes[place + 1] = codes[place]
                place -= 1
            codes[place + 1] = code
    kept = min(count, 1)
    for number in range(start + 1, start + count):
        if codes[number] != codes[start + kept - 1]:
            codes[start + kept] = codes[number]
            kept += 1
    return kept


@compiled
def encode_texts(
    data: Any,
    offsets: Any,
    classes: Any,
    lower: Any,
    table: Any,
    ranks: Any,
    ends: Any,
    codes: Any,
    sequence_keys: Any,
    set_keys: Any,
) -> int:
    """Write the sorted distinct codes of each text's words; return how many there are in all.

    `table`, `ranks`: the vocabulary, and the frequency class of each of its words; others have 0.
    `ends[row]`: where the row's codes end. A text without a word has the hash of its bytes, as its
    sequence and its set: it is like its copies, and like nothing else.
    """
    mask, total = len(table) - 1, 0
    words = np.empty(16, np.uint64)
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        if end - start >= len(words):
            words = np.empty(2 * (end - start), np.uint64)
        count = hash_words(data, start, end, classes, lower, words)
        sequence = START
        for number in range(count):
            word = words[number]
            slot = np.int64(word) & mask
            while ranks[slot] != 0 and table[slot] != word:
                slot = (slot + 1) & mask
            codes[total + number] = (U(ranks[slot]) << U(HASH_BITS)) | (word & HASH_MASK)
            sequence = mix64(sequence * PRIME + word)
        if count == 0:
            for at in range(start, end):
                sequence = (sequence ^ U(data[at])) * PRIME
            sequence = mix64(~sequence)
        kept = sort_distinct(codes, total, count)
        members = U(kept)
        for number in range(total, total + kept):
            members += mix64(codes[number] & HASH_MASK)
        sequence_keys[row] = sequence
        set_keys[row] = sequence if count == 0 else mix64(members)
        total += kept
        ends[row] = total
    return total


@compiled
def gather_sets(codes: Any, starts: Any, rows: Any, new_starts: Any, gathered: Any) -> None:
    """Copy the codes of the sets `rows`, one after the other."""
    for number in range(len(rows)):
        start, place = starts[rows[number]], new_starts[number]
        for offset in range(new_starts[number + 1] - place):
            gathered[place + offset] = codes[start + offset]
