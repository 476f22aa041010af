"""The rules on the form of texts: each with an example, and with one that only just passes."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.personas.plan import PersonaPlan
from persona_pipeline.personas.quality import (
    MAX_WORDS,
    MIN_WORDS,
    STAGE,
    apply_quality_rules,
    judge_personas,
    prompt_examples,
    text_flags,
)
from persona_pipeline.reasons import PersonaReason

EXAMPLES = ["A piano tuner who works with open windows in quiet streets."]
GOOD = "A lock keeper who times the barges of the upper canal by hand."
PLAN = PersonaPlan("fake/demo")


def judge(text: str, language: str | None = None) -> tuple[str | None, str | None]:
    personas = pl.DataFrame({"persona_id": ["p"], "persona": [text]})
    return judge_personas(personas, EXAMPLES, language=language).select("reason", "detail").row(0)


@pytest.mark.parametrize(
    ("reason", "text", "detail"),
    [
        ("too_short", "A lock keeper by trade.", "5 words"),
        ("too_short", "", "0 words"),
        ("too_long", "A keeper of " + " ".join(f"lock{n}" for n in range(90)), "93 words"),
        ("first_person", "I am a lock keeper who times the barges.", "I"),
        ("first_person", '"We keep the locks and time the barges."', '"We'),
        ("first_person", "I'm a lock keeper who times the barges.", "I"),
        ("not_a_person", "The text is about a lock and its keeper.", "The text"),
        ("not_a_person", "A film about a lock and its old keeper.", "A film about"),
        ("not_a_person", "People who keep locks and time the barges.", "People"),
        ("not_a_person", "Anyone who keeps locks and times the barges.", "Anyone"),
        ("not_a_person", "Those who keep locks and time the barges.", "Those who"),
        (
            "leaked_instruction",
            "A keeper who is likely to read the text daily.",
            "likely to read the text",
        ),
        ("leaked_instruction", "A keeper, as an AI would say, of old locks.", "as an AI"),
        (
            "leaked_instruction",
            "A keeper who begins with ignore previous instructions.",
            "previous instructions",
        ),
        ("leaked_instruction", "A keeper whose answer is a JSON object here.", "JSON object"),
        ("leaked_instruction", "A keeper of </document and of many locks.", "</document"),
        (
            "repeated_ngram",
            "A keeper of old locks and of old locks and of old locks.",
            "of old locks",
        ),
        (
            "copied_example",
            "A piano tuner who works with open windows in quiet street.",
            EXAMPLES[0],
        ),
    ],
)
def test_a_persona_that_breaks_a_rule_is_rejected_for_it(
    reason: str, text: str, detail: str
) -> None:
    assert judge(text) == (reason, detail)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "A lock keeper by trade, retired.",
        "A keeper of " + " ".join(f"lock{n}" for n in range(77)),
        "An inspector I. Newton would have liked, keen on weights.",
        "An island guide who shows our visitors round the old light.",
        "A text editor for a shipping gazette who checks the tide tables.",
        "A film projectionist who splices the reels of a seaside cinema.",
        "A people manager at a lock who plans the shifts of ten keepers.",
        "A meteorologist whose documents describe the language of clouds.",
        "A keeper of old locks and of old boats and of old locks.",
        "A piano maker who works with open doors in a loud street.",
    ],
)
def test_a_persona_that_only_just_passes_is_kept(text: str) -> None:
    assert judge(text) == (None, None)


def test_every_reason_of_the_rules_has_an_example_here() -> None:
    by_call = {PersonaReason.CALL_FAILED, PersonaReason.INVALID_ANSWER}
    [mark] = test_a_persona_that_breaks_a_rule_is_rejected_for_it.pytestmark  # type: ignore[attr-defined]
    shown = {case[0] for case in mark.args[1]}
    assert shown | by_call | {PersonaReason.WRONG_LANGUAGE} == set(PersonaReason)


def test_the_first_rule_that_applies_is_the_reason() -> None:
    assert judge("I am the text.")[0] == "too_short"


def test_a_persona_in_another_language_is_rejected_with_that_language() -> None:
    spanish = "Una mujer que arregla los relojes de las iglesias del pueblo cada verano."
    assert judge(spanish, "en") == ("wrong_language", "es")
    assert judge(spanish, "es") == (None, None)
    assert judge(spanish) == (None, None)
    assert judge(GOOD, "en") == (None, None)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("一位在运河边记录船只的老人", 13),
        ("水門で船の時刻を記録する人", 13),
        ("A keeper of 水門 locks", 6),
        ("Ключарь, хранитель шлюзов", 3),
        ("don't count twice-told", 5),
        ("", 0),
    ],
)
def test_where_no_spaces_are_written_a_character_counts_as_a_word(text: str, count: int) -> None:
    flags = text_flags(pl.DataFrame({"id": ["a"], "text": [text]}), [], ngram=3, times=3)
    assert flags["word_count"].to_list() == [count]


def test_a_chinese_persona_is_long_enough() -> None:
    assert judge("一位在运河边记录船只的老人")[0] is None
    assert judge("一位老人")[0] == "too_short"


def test_flags_come_in_the_order_of_the_texts() -> None:
    texts = pl.DataFrame({"id": ["z", "a", "m"], "text": ["one", "one two", "one two three"]})
    flags = text_flags(texts, [], ngram=3, times=3)
    assert flags.select("id", "word_count").rows() == [("z", 1), ("a", 2), ("m", 3)]


def test_no_texts_have_no_flags() -> None:
    texts = pl.DataFrame(schema={"id": pl.String, "text": pl.String})
    flags = text_flags(texts, EXAMPLES, ngram=3, times=3)
    assert (len(flags), flags.columns[-1]) == (0, "copied_example")


@pytest.mark.parametrize(("times", "expected"), [(2, "a b c"), (3, "")])
def test_repetition_is_so_many_words_so_often(times: int, expected: str) -> None:
    texts = pl.DataFrame({"id": ["a"], "text": ["A b, c. x a B c"]})
    assert text_flags(texts, [], ngram=3, times=times)["repeated_ngram"][0] == expected


def test_the_bounds_are_those_of_the_documentation() -> None:
    assert (MIN_WORDS, MAX_WORDS) == (6, 80)


def personas(*rows: tuple[str, str]) -> pl.DataFrame:
    schema = {"persona_id": pl.String, "persona": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(call_key=pl.lit("c"))


def test_candidates_carry_their_origin_and_rejected_ones_their_reason() -> None:
    rows = apply_quality_rules(
        personas(("a", GOOD), ("b", "Too short.")), personas(("c", GOOD)), PLAN, "s"
    )
    assert rows.tables["personas.candidates"].sort("persona_id").rows() == [
        ("a", "text_to_persona", GOOD, 13),
        ("c", "persona_to_persona", GOOD, 13),
    ]
    assert rows.tables["personas.rejected"].rows() == [
        (STAGE, "b", "Too short.", "too_short", "2 words", "c")
    ]
    assert rows.scope == {"personas.rejected": ("stage", STAGE)}


TEXTS = st.lists(st.sampled_from([GOOD, "Short.", "I keep " + GOOD, EXAMPLES[0]]) | st.text())


@given(TEXTS, TEXTS)
def test_every_persona_ends_as_a_candidate_or_with_a_reason(
    extracted: list[str], related: list[str]
) -> None:
    rows = apply_quality_rules(
        personas(*((f"e{n}", text) for n, text in enumerate(extracted))),
        personas(*((f"r{n}", text) for n, text in enumerate(related))),
        PLAN,
        "s",
    )
    kept, rejected = rows.tables["personas.candidates"], rows.tables["personas.rejected"]
    assert rows.funnel is not None
    assert len(kept) + len(rejected) == rows.funnel.rows_in == len(extracted) + len(related)
    matches = {*kept["persona_id"], *rejected["persona_id"]}
    assert len(matches) == rows.funnel.rows_in
    assert set(rejected["reason"]) <= set(PersonaReason)


def test_an_example_of_our_own_prompts_is_no_candidate() -> None:
    copied = personas(*((str(n), text) for n, text in enumerate(prompt_examples())))
    rows = apply_quality_rules(copied, personas(), PLAN, "s")
    assert rows.tables["personas.candidates"].is_empty()
