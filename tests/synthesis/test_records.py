"""Personas to records: which are chosen, what a record holds, and that none is lost."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.llm.clients.fake import FakeChatClient, instance_of_schema
from persona_pipeline.llm.requests import ChatRequest
from persona_pipeline.reasons import RecordReason
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.prompting import Prompting
from persona_pipeline.synthesis.records import SynthesisPlan, synthesize
from persona_pipeline.synthesis.tables import table_columns, table_descriptions, table_name
from tests.support.purchases import ScriptedClient, by_outcome, open_gateway

PLAN = SynthesisPlan("fake/demo")
ANSWER: dict[str, Any] = {
    "question": "What keeps time without a clock and opens for every ship?",
    "answer": "A lock keeper.",
    "score": 3,
    "ratio": 0.25,
    "is_hard": True,
    "tags": ["canal", "work"],
    "steps": [{"text": "It opens: é."}],
}


def personas(count: int) -> pl.DataFrame:
    rows = [(f"p{number}", f"A keeper of lock number {number}.") for number in range(count)]
    schema = {"persona_id": pl.String, "persona": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def write(
    riddle: Domain,
    reply: Callable[[ChatRequest], str] = instance_of_schema,
    plan: SynthesisPlan = PLAN,
    count: int = 1,
) -> StageRows:
    with open_gateway(FakeChatClient(reply)) as gateway:
        return synthesize(riddle, personas(count), plan, gateway, "s")


def answer_with(**changed: object) -> Callable[[ChatRequest], str]:
    return lambda _request: json.dumps({**ANSWER, **changed})


def kept(rows: StageRows) -> pl.DataFrame:
    return rows.tables["synthetic.riddle"]


def turned_away(rows: StageRows) -> pl.DataFrame:
    return rows.tables["synthetic.rejected"]


def test_a_record_holds_its_fields_its_text_and_where_it_came_from(riddle: Domain) -> None:
    rows = write(riddle, answer_with())
    record = kept(rows).row(0, named=True)
    assert len(record.pop("record_id")) == len(record.pop("call_key")) == 32
    assert record.pop("variant") in {"difficulty=easy", "difficulty=hard"}
    assert record == {
        "persona_id": "p0",
        "prompting": "persona_few_shot",
        "text": f"{ANSWER['question']} -> {ANSWER['answer']}",
        "question": ANSWER["question"],
        "answer": ANSWER["answer"],
        "score": 3,
        "ratio": 0.25,
        "is_hard": True,
        "tags": ["canal", "work"],
        "steps": '[{"text": "It opens: é."}]',
    }
    assert turned_away(rows).is_empty()


def test_a_whole_number_written_with_a_point_is_a_whole_number(riddle: Domain) -> None:
    rows = write(riddle, answer_with(score=3.0, ratio=1))
    assert kept(rows).select("score", "ratio").row(0) == (3, 1.0)


def test_records_of_every_type_reach_the_database(riddle: Domain, store: Store) -> None:
    store.add_table(table_name(riddle), table_columns(riddle))
    store.replace([write(riddle, answer_with())], [], run_id="r")
    matches = store.query(
        "select score, ratio, is_hard, tags, steps->>'$[0].text' from synthetic.riddle"
    )
    assert matches.row(0) == (3, 0.25, True, ["canal", "work"], "It opens: é.")


def test_the_columns_of_the_table_are_those_of_the_rows(riddle: Domain) -> None:
    common = {"shard", "run_id", "created_at"}
    assert set(table_columns(riddle)) - common == set(kept(write(riddle)).columns)


def test_a_field_is_described_by_its_file_else_by_its_schema(riddle: Domain) -> None:
    fields = {
        **riddle.file.fields,
        "answer": {"type": "string", "description": "What is meant."},
        "score": {"type": "integer", "description": "How hard, for the model."},
    }
    changed = {"fields": fields, "columns": {"score": "How hard it is, 0 to 9."}}
    described = table_descriptions(replace(riddle, file=riddle.file.model_copy(update=changed)))
    assert described.keys() == {"", *table_columns(riddle)}
    assert described[""] == "One row is one riddle."
    assert described["score"] == "How hard it is, 0 to 9."
    assert described["answer"] == "What is meant."
    assert described["is_hard"] == (
        """A field of the model's answer, of the schema {"type":"boolean"}."""
    )


@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        ("leaked_instruction", {"question": "As an AI language model, what am I?"}),
        ("repeated_ngram", {"question": "who keeps the old lock now " * 5}),
        (
            "copied_example",
            {
                "question": "What has a mouth and never speaks, though it runs all day to the sea?",
                "answer": "The river.",
            },
        ),
        ("failed_check", {"question": "Who is A lock keeper. by trade?"}),
    ],
)
def test_a_record_with_a_fault_is_rejected_for_it(
    riddle: Domain, reason: str, changed: dict[str, str]
) -> None:
    rejected = turned_away(write(riddle, answer_with(**changed))).row(0, named=True)
    assert (rejected["reason"], rejected["domain"]) == (reason, "riddle")
    assert json.loads(rejected["answer"]) == {**ANSWER, **changed}
    assert rejected["detail"]


def test_a_call_without_a_usable_answer_is_a_rejected_record(riddle: Domain) -> None:
    outcomes = {"invalid": "invalid_answer", "failed": "call_failed"}
    for outcome, reason in outcomes.items():
        with open_gateway(ScriptedClient(by_outcome([outcome]))) as gateway:
            rows = synthesize(riddle, personas(2), PLAN, gateway, "s")
        assert turned_away(rows)["reason"].to_list() == [reason] * 2


OUTCOMES = st.lists(st.sampled_from(["good", "invalid", "failed"]), min_size=1, max_size=5)


@given(OUTCOMES, st.integers(0, 12), st.none() | st.integers(1, 8))
def test_no_record_is_lost_whatever_the_model_answers(
    riddle: Domain, outcomes: list[str], count: int, limit: int | None
) -> None:
    plan = SynthesisPlan("fake/demo", records_per_shard=limit)
    with open_gateway(ScriptedClient(by_outcome(outcomes))) as gateway:
        rows = synthesize(riddle, personas(count), plan, gateway, "s")
    expected = count if limit is None else min(count, limit)
    assert rows.funnel is not None
    assert (rows.funnel.input_count, rows.funnel.rows_in) == (count, expected)
    assert len(kept(rows)) + len(turned_away(rows)) == expected
    assert set(turned_away(rows)["reason"]) <= set(RecordReason)
    assert rows.scope == {"synthetic.rejected": ("domain", "riddle")}


@given(st.permutations(range(10)), st.integers(1, 10))
def test_the_same_personas_are_chosen_in_any_order_of_input(
    riddle: Domain, order: list[int], limit: int
) -> None:
    plan = SynthesisPlan("fake/demo", records_per_shard=limit)
    matches = []
    for frame in (personas(10), personas(10)[order]):
        with open_gateway(FakeChatClient()) as gateway:
            matches.append(kept(synthesize(riddle, frame, plan, gateway, "s")))
    assert matches[0].equals(matches[1])
    assert len(matches[0]) == limit


def test_asking_for_more_records_keeps_those_there_are(riddle: Domain) -> None:
    chosen = []
    for limit in (3, 6, None):
        rows = write(riddle, plan=SynthesisPlan("fake/demo", records_per_shard=limit), count=10)
        chosen.append(set(kept(rows)["record_id"]))
    assert chosen[0] < chosen[1] < chosen[2]
    assert [len(ids) for ids in chosen] == [3, 6, 10]


@pytest.mark.parametrize(("prompting", "turns"), [("zero_shot", 2), ("few_shot", 4)])
def test_the_way_of_prompting_is_on_every_record(
    riddle: Domain, prompting: str, turns: int
) -> None:
    client = FakeChatClient()
    plan = SynthesisPlan("fake/demo", Prompting(prompting))
    with open_gateway(client) as gateway:
        rows = synthesize(riddle, personas(1), plan, gateway, "s")
    assert kept(rows)["prompting"].to_list() == [prompting]
    assert len(client.requests[0].messages) == turns
    assert (client.requests[0].stage, client.requests[0].prompt_name) == (
        "synthetic.riddle",
        "riddle",
    )
