"""What a word is: the compiled tokenizer, the SQL file beside it, and words written out here."""

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.dedup.scratch import open_scratch
from persona_pipeline.dedup.words import characters, word_sets
from persona_pipeline.dedup.words.characters import RULES, load_characters, read_characters
from persona_pipeline.dedup.words.word_sets import (
    EncodedTexts,
    encode,
    hash_texts,
    learn_vocabulary,
)
from persona_pipeline.dedup.words.word_sets_kernel import HASH_MASK
from tests.support.dedup_reference import fnv

POINTS = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
CHUNK = 64
any_text = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60)
"""No unassigned characters: NFC of those changes with the edition of Unicode, and with it a word.
Polars 2.1 follows Unicode 17, DuckDB 1.5.5 an older edition."""
speech = st.text(
    "\u00ad\ufe0f\u200b\u200eaAéE\u0301\u0323ßİς_7 -,\x00東京の塔ーกำ\u0e49ລາວមြန်🧪\u200dعَرב",
    max_size=30,
)
"""Where the rules meet: marks, cases, scripts with and without spaces, the unseen, NUL."""


def encoded(texts: Sequence[str], learned: Sequence[str] | None = None) -> EncodedTexts:
    known = pl.Series(texts if learned is None else learned, dtype=pl.String)
    return encode(pl.Series(texts, dtype=pl.String), learn_vocabulary(known))


def kernel_words(texts: Sequence[str]) -> list[set[int]]:
    """The hash of each distinct word of each text."""
    sets = encoded(texts).sets
    hashes = (sets.codes & HASH_MASK).tolist()
    matches = [hashes[start:end] for start, end in zip(sets.starts, sets.starts[1:], strict=False)]
    assert all(len(set(words)) == len(words) for words in matches)
    return [set(words) for words in matches]


def sql_words(texts: Sequence[str]) -> list[set[str]]:
    """The distinct words of each text, by sql/dedup/words.sql."""
    matches = [set[str]() for _ in texts]
    with open_scratch(memory_limit=1_000_000_000, threads=2) as scratch:
        rows = {"key": np.arange(len(texts), dtype=np.uint64), "text": list(texts)}
        scratch.load("texts", pl.DataFrame(rows, schema={"key": pl.UInt64, "text": pl.String}))
        for number, word in scratch.fetch("dedup/words", RULES).iter_rows():
            matches[number].add(word)
    return matches


@cache
def hash_word(word: str) -> int:
    return fnv(ord(letter) for letter in word) & int(HASH_MASK)


def hashes_of(words: set[str]) -> set[int]:
    return {hash_word(word) for word in words}


def test_the_table_of_characters_is_what_this_duckdb_reads() -> None:
    (classes, lower), (read_classes, read_lower) = load_characters(), read_characters()

    assert np.array_equal(classes, read_classes)
    assert np.array_equal(lower, read_lower)


def test_writing_the_table_anew_gives_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "characters.csv"

    characters.write_characters(path)

    assert path.read_bytes() == characters.TABLE.read_bytes()


def test_every_code_point_is_read_alike_by_the_kernel_and_in_sql() -> None:
    chunks = [POINTS[start : start + CHUNK] for start in range(0, len(POINTS), CHUNK)]
    texts = ["".join(f" {point} x{point}y" for point in chunk) for chunk in chunks]

    pairs = zip(chunks, kernel_words(texts), sql_words(texts), strict=True)

    assert [chunk for chunk, hashes, words in pairs if hashes != hashes_of(words)] == []


def test_decomposed_characters_and_all_marks_are_read_alike_by_the_kernel_and_in_sql() -> None:
    decomposed = [unicodedata.normalize("NFD", point) for point in POINTS]
    changed = [text for text, point in zip(decomposed, POINTS, strict=True) if text != point]
    marks = [point for point in POINTS if unicodedata.combining(point)]
    texts = [
        *(f"x{text}y {text}" for text in changed),
        *(letter + mark for mark in marks for letter in "aeiouyAEIOUY"),
        *("o" + "".join(marks[start : start + 5]) for start in range(len(marks))),
    ]

    pairs = zip(texts, kernel_words(texts), sql_words(texts), strict=True)

    assert [text for text, hashes, words in pairs if hashes != hashes_of(words)] == []


@given(st.lists(any_text | speech, max_size=20))
def test_any_text_is_read_alike_by_the_kernel_and_in_sql(texts: list[str]) -> None:
    assert kernel_words(texts) == [hashes_of(words) for words in sql_words(texts)]


@given(st.lists(any_text | speech, max_size=20))
def test_a_text_has_the_set_key_of_its_sorted_words(texts: list[str]) -> None:
    words = sql_words(texts)
    spelled = [" ".join(sorted(each)) for each in words]

    first, second = encoded(texts), encoded(spelled)

    for number, text in enumerate(spelled):
        # Not so where lower case is not NFC: "\u0130\u0300" gives an i and an accent apart.
        if text and unicodedata.is_normalized("NFC", text):
            assert first.set_keys[number] == second.set_keys[number]


@given(st.lists(any_text | speech, max_size=20))
def test_compositions_of_a_text_have_one_key(texts: list[str]) -> None:
    forms = [
        encoded([unicodedata.normalize(form, text) for text in texts]) for form in ("NFC", "NFD")
    ]

    assert forms[0].set_keys.tolist() == forms[1].set_keys.tolist()
    assert forms[0].sequence_keys.tolist() == forms[1].sequence_keys.tolist()


@given(st.lists(speech, max_size=20), st.lists(speech, max_size=20), st.integers(1, 7))
def test_keys_depend_on_the_text_only(texts: list[str], learned: list[str], chunk: int) -> None:
    expected = encoded(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_sets, "CHUNK", chunk)
        matches = encoded(texts, learned)

    assert matches.set_keys.tolist() == expected.set_keys.tolist()
    assert matches.sequence_keys.tolist() == expected.sequence_keys.tolist()
    assert matches.sets.sizes.tolist() == expected.sets.sizes.tolist()


@given(st.lists(speech, max_size=20))
def test_codes_are_sorted_and_the_rare_come_first(texts: list[str]) -> None:
    sets = encoded(texts).sets
    for start, end in zip(sets.starts, sets.starts[1:], strict=False):
        codes = sets.codes[start:end].tolist()
        assert codes == sorted(set(codes))

    often = encoded(["rare common"], ["common rare", *["common"] * 50]).sets.codes

    assert (often & HASH_MASK).tolist() == [hash_word("rare"), hash_word("common")]


def test_a_full_vocabulary_leaves_the_words_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(f"w{number}" for number in range(start, start + 9)) for start in range(90)]
    expected = [hashes_of(set(text.split())) for text in texts]

    monkeypatch.setattr(word_sets, "VOCABULARY", 16)

    assert kernel_words(texts) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Élan e\u0301lan", {"élan"}),
        ("a_b c-d 3½ x²", {"a_b", "c", "d", "3½", "x²"}),
        ("العَرَبِيَّة لغة", {"العَرَبِيَّة", "لغة"}),
        ("नमस्ते दुनिया", {"नमस्ते", "दुनिया"}),
        ("我喜欢数学\uff0c也", {"我喜", "喜欢", "欢数", "数学", "也"}),
        ("東京tower2020年", {"東京", "tower2020", "年"}),
        ("コーヒーを", {"コー", "ーヒ", "ヒー", "ーを"}),
        ("น้ำตา", {"น้", "้ำ", "ำต", "ตา"}),
        ("ຂ້ອຍ", {"ຂ້", "້ອ", "ອຍ"}),
        ("고양이를 키우는 사람", {"고양이를", "키우는", "사람"}),
        ("👩‍🔬 chemist 🧪", {"chemist"}),
        ("before\x00été\x00after", {"before", "été", "after"}),
        ("ΣΊΣΥΦΟΣ Straße İstanbul", {"σίσυφοσ", "straße", "istanbul"}),
        ("co\u00adoper\u00adate ☕\ufe0f zero\u200bwidth", {"cooperate", "zero", "width"}),
        ("می\u200cروم \u200eabc\u200f", {"میروم", "abc"}),
        ("葛\U000e0100城", {"葛城"}),
        ("", set()),
        (" \n\t\u00a0\u200b", set()),
    ],
)
def test_tokenizer_version_3_splits_as_written_here(text: str, words: set[str]) -> None:
    assert word_sets.TOKENIZER_VERSION == 3
    assert sql_words([text]) == [words]
    assert kernel_words([text]) == [hashes_of(words)]


def test_texts_without_a_word_are_like_their_copies_and_nothing_else() -> None:
    texts = ["", "?!", "🧪", "🧪🧪", "👩\u200d🔬", "a", "\x00", " "]

    first, second = encoded(texts), encoded(texts[::-1])

    assert len(set(first.set_keys.tolist())) == len(texts)
    assert first.set_keys.tolist() == second.set_keys.tolist()[::-1]
    assert first.set_keys[:5].tolist() == first.sequence_keys[:5].tolist()


def test_the_order_and_the_repeats_of_words_are_in_the_sequence_only() -> None:
    matches = encoded(["a b", "b a", "a b b", "A, b!", "a b c"])

    assert len(set(matches.set_keys[:4].tolist())) == 1
    assert len(set(matches.sequence_keys.tolist())) == 4
    assert matches.sequence_keys[0] == matches.sequence_keys[3]
    assert matches.set_keys[4] != matches.set_keys[0]


@given(st.lists(any_text, max_size=9))
def test_a_text_is_hashed_as_it_stands(texts: list[str]) -> None:
    series = pl.Series(texts, dtype=pl.String)

    assert hash_texts(series).tolist() == [fnv(text.encode()) for text in texts]
    assert hash_texts(series[2:]).tolist() == [fnv(text.encode()) for text in texts[2:]]


def test_slices_and_chunks_of_a_column_read_as_their_texts() -> None:
    whole = pl.Series(["a b", "é c", "ignored", "e\u0301 c", "🧪"])
    parts = pl.concat([whole[:2], whole[3:]], rechunk=False)
    vocabulary = learn_vocabulary(whole)

    matches = encode(parts[1:], vocabulary)

    assert parts.n_chunks() == 2
    assert (
        matches.set_keys.tolist()
        == encode(pl.Series(["é c", "é c", "🧪"]), vocabulary).set_keys.tolist()
    )
