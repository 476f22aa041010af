"""Batches: each request bought once, whenever and however the process that waits for it ends."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from persona_pipeline.estimate import estimate_run
from persona_pipeline.llm.answers import ask_again
from persona_pipeline.llm.batches import waiting
from persona_pipeline.llm.batches.api import new_submission
from persona_pipeline.llm.batches.client import BatchChatClient, Batching
from persona_pipeline.llm.batches.collecting import CollectedBatch, collect_finished
from persona_pipeline.llm.batches.gate import BatchGate
from persona_pipeline.llm.batches.records import (
    LONGEST_KEPT,
    BatchRecord,
    address_of,
    find_records,
    forget_bought,
    start_record,
)
from persona_pipeline.llm.buying.throttle import Outcome
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.clients.direct import DirectChatClient
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.models import OpenLanes, open_batch_lane, open_lane
from persona_pipeline.llm.prices import Price
from persona_pipeline.llm.requests import ChatReply, ChatRequest
from persona_pipeline.registration import register_source
from persona_pipeline.settings import Settings, load_settings
from persona_pipeline.store import Store
from tests.library.batch_server import BatchServer, Json, answer_schema, serve_batches
from tests.library.faulty_server import chat, serve
from tests.library.purchases import GOOD, Shelf, buy, make_request

MODEL = "openai/served"
ONE = make_request(model=MODEL)
MANY = [make_request(f"Who reads page {number}?", model=MODEL) for number in range(7)]
SOON = 0.02
Outcomes = list[ChatReply | BaseException]


def open_client(
    server: BatchServer,
    folder: Path,
    *,
    size: int = 100,
    poll: float = SOON,
    api_key: str | None = None,
) -> BatchChatClient:
    batching = Batching(folder / "batches", size, poll, lambda: "pages-00000", gathering=SOON)
    return BatchChatClient(MODEL, batching, api_base=server.url, api_key=api_key)


def ask(client: BatchChatClient, *requests: ChatRequest, attempt: int = 0) -> Outcomes:
    """What each of them gets in one process."""

    async def all_of_them() -> Outcomes:
        calls = [client.complete(request, attempt=attempt) for request in requests]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        await client.close()
        return outcomes

    return asyncio.run(all_of_them())


def stop_while_waiting(client: BatchChatClient, *requests: ChatRequest) -> None:
    """A process that goes once its batch is submitted."""

    async def wait_a_little() -> None:
        waiting = [asyncio.create_task(client.complete(request)) for request in requests]
        done, _ = await asyncio.wait(waiting, timeout=1)
        assert not done
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await client.close()

    asyncio.run(wait_a_little())


def records(folder: Path) -> list[BatchRecord]:
    return list(find_records(folder / "batches"))


def texts(outcomes: Outcomes) -> list[str]:
    return [reply.text for reply in outcomes if isinstance(reply, ChatReply)]


def the_error(outcomes: Outcomes) -> CallError:
    [error] = outcomes
    assert isinstance(error, CallError)
    return error


def in_database(requests: Sequence[ChatRequest]) -> Shelf:
    """A database that holds answers to these requests."""
    keys = [request.call_key for request in requests]
    return Shelf({key: Answer(key, MODEL, "ok", GOOD, None) for key in keys})


def count_prompt(body: Json, _before: int) -> str:
    return json.dumps({"persona": body["messages"][0]["content"]})


def test_requests_travel_together_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    with serve_batches(BatchServer(answer=count_prompt)) as server:
        answers = buy(open_client(server, tmp_path), MANY, tmp_path / "journal")

    personas = [json.loads(answers[one.call_key].response or "")["persona"] for one in MANY]
    assert personas == [one.messages[0]["content"] for one in MANY]
    assert len(server.batches) == 1
    assert set(server.billed) == {one.call_key for one in MANY}
    assert server.billed_twice == 0


def test_a_batch_holds_no_more_than_its_size(tmp_path: Path) -> None:
    with serve_batches(BatchServer()) as server:
        assert len(texts(ask(open_client(server, tmp_path, size=3), *MANY))) == 7

    sizes = sorted(len(record.submission.requests) for record in records(tmp_path))
    assert sizes == [1, 3, 3]


def test_a_line_holds_what_the_direct_client_would_send(tmp_path: Path) -> None:
    with serve(chat(GOOD)) as plain, serve_batches(BatchServer()) as server:
        direct = DirectChatClient(api_base=plain.url)

        async def send() -> None:
            await direct.complete(ONE)
            await direct.close()

        asyncio.run(send())
        [reply] = ask(open_client(server, tmp_path), ONE)

    assert server.bodies == plain.bodies
    assert isinstance(reply, ChatReply)
    assert (reply.tokens_in, reply.tokens_out, reply.finish_reason) == (7, 3, "stop")


def test_only_the_lines_that_failed_are_asked_again(tmp_path: Path) -> None:
    seen: set[str] = set()

    def fail_two_at_first(body: Json, before: int) -> str | int:
        page = body["messages"][0]["content"]
        failing = {MANY[1].messages[0]["content"]: 429, MANY[4].messages[0]["content"]: 500}
        if page in failing and page not in seen:
            seen.add(page)
            return failing[page]
        return answer_schema(body, before)

    with serve_batches(BatchServer(answer=fail_two_at_first)) as server:
        answers = buy(open_client(server, tmp_path), MANY, tmp_path / "journal")

    assert {answer.status for answer in answers.values()} == {"ok"}
    assert len(server.bodies) == len(MANY) + 2
    assert server.billed_twice == 0


def test_a_line_that_can_never_be_answered_is_given_up(tmp_path: Path) -> None:
    with serve_batches(BatchServer(answer=lambda *_: 400)) as server:
        [answer] = buy(open_client(server, tmp_path), [ONE], tmp_path / "journal").values()

    assert (answer.status, answer.error) == ("failed", "HTTP 400: status 400")
    assert len(server.batches) == 1


def test_an_expired_batch_keeps_its_answers_and_the_rest_is_submitted_again(
    tmp_path: Path,
) -> None:
    with serve_batches(BatchServer(expires_after=3)) as server:
        answers = buy(open_client(server, tmp_path), MANY, tmp_path / "journal")

    assert {answer.status for answer in answers.values()} == {"ok"}
    assert [
        len(server.files[batch["input_file_id"]].splitlines())
        for batch in (server.batches.values())
    ] == [7, 4]
    assert server.billed_twice == 0


def test_a_batch_that_fails_validation_stops_the_run_with_the_providers_words(
    tmp_path: Path,
) -> None:
    problem = {"code": "invalid_model", "message": "The model served is not one of ours."}
    server = BatchServer(refuses_batches=[problem])
    with serve_batches(server), pytest.raises(ModelError, match="served is not one of ours"):
        buy(open_client(server, tmp_path), MANY, tmp_path / "journal")
    assert records(tmp_path) == []


def test_a_batch_over_the_quota_may_pass_later(tmp_path: Path) -> None:
    problem = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}
    with serve_batches(BatchServer(refuses_batches=[problem])) as server:
        client = open_client(server, tmp_path)
        error = the_error(ask(client, ONE))
        assert texts(ask(client, ONE))

    assert error.kind is CallErrorKind.RATE
    assert error.retry_after == 60
    assert "lower batch_size" in str(error)


def test_what_a_stopped_process_submitted_is_collected_by_the_next(tmp_path: Path) -> None:
    with serve_batches(BatchServer(delay=60)) as server:
        stop_while_waiting(open_client(server, tmp_path), *MANY)
        server.finish()
        assert len(texts(ask(open_client(server, tmp_path), *MANY[2:], ONE))) == 6

    assert [batch["status"] for batch in server.batches.values()] == ["completed"] * 2
    assert len(server.billed) == 8
    assert server.billed_twice == 0


def test_a_batch_whose_creation_was_not_heard_of_is_found_by_its_name(tmp_path: Path) -> None:
    with serve_batches(BatchServer(loses_answer=True, page=1)) as server:
        assert len(texts(ask(open_client(server, tmp_path), *MANY))) == 7
    assert len(server.batches) == 1


def test_a_kill_between_creation_and_note_loses_nothing(tmp_path: Path) -> None:
    with serve_batches(BatchServer(page=2)) as server:
        ask(open_client(server, tmp_path), *MANY)
        [record] = records(tmp_path)
        record.results.unlink()
        record.path.write_bytes(record.path.read_bytes().splitlines(keepends=True)[0] + b'{"ba')
        ask(open_client(server, tmp_path / "others"), *MANY[:2])
        ask(open_client(server, tmp_path / "yet_others"), *MANY[:2])
        batches = len(server.batches)

        assert len(texts(ask(open_client(server, tmp_path), *MANY))) == 7
        assert len(server.batches) == batches
        assert records(tmp_path)[0].batch_id == "batch_0"


def test_a_submission_that_never_arrived_is_made_again(tmp_path: Path) -> None:
    with serve_batches(BatchServer()) as server:
        submission = new_submission(MODEL, address_of(server.url), "s", {ONE.call_key: "k"})
        start_record(tmp_path / "batches", submission).release()
        assert texts(ask(open_client(server, tmp_path), ONE))

    [record] = records(tmp_path)
    assert record.submission.submission != submission.submission
    assert server.billed == {ONE.call_key: 1}


def test_finished_answers_wait_on_disk_for_whoever_asks_for_them(tmp_path: Path) -> None:
    with serve_batches(BatchServer(answer=count_prompt)) as server:
        first = texts(ask(open_client(server, tmp_path), *MANY))
    assert texts(ask(open_client(server, tmp_path), *MANY)) == first  # the server is gone


def test_an_old_error_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    with serve_batches(BatchServer(answer=lambda *_: 400)) as server:
        assert the_error(ask(open_client(server, tmp_path), ONE)).kind is CallErrorKind.PERMANENT
        server.answer = answer_schema
        assert texts(ask(open_client(server, tmp_path), ONE))


def test_an_unusable_answer_is_asked_again_and_neither_is_bought_twice(tmp_path: Path) -> None:
    pages = iter(["", '{"persona": 3}', GOOD, GOOD])
    with serve_batches(BatchServer(answer=lambda *_: next(pages))) as server:
        first = buy(open_client(server, tmp_path), MANY[:2], tmp_path / "one")
        again = buy(open_client(server, tmp_path), MANY[:2], tmp_path / "two")

    one, two = (request.call_key for request in MANY[:2])
    assert {key: answer.response for key, answer in again.items()} == {
        key: answer.response for key, answer in first.items()
    }
    assert {answer.status for answer in first.values()} == {"ok"}
    assert len(server.billed) == 4
    assert {one, two} < set(server.billed)
    assert f"{one}-1" in server.billed  # the same words, since nothing was said
    assert server.billed_twice == 0


def test_trouble_while_polling_is_logged_once_and_passes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve_batches(BatchServer(delay=1.0)) as server:
        client = open_client(server, tmp_path)

        async def wait_through_trouble() -> ChatReply:
            asked = asyncio.create_task(client.complete(ONE))
            await asyncio.to_thread(server.is_asked.wait)
            server.troubles += [500, 429, 503]
            reply = await asked
            await client.close()
            return reply

        assert asyncio.run(wait_through_trouble()).text
    lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.partition(" requests ")[2] for line in lines if "submitted" in line] == [
        "submitted; run again or leave it: the answers are collected once"
    ]
    assert len([line for line in lines if "tried again" in line]) == 1


def test_trouble_before_anything_was_bought_passes(tmp_path: Path) -> None:
    with serve_batches(BatchServer(upload_troubles=[503, 500])) as server:
        assert texts(ask(open_client(server, tmp_path), ONE))
    assert len(server.batches) == 1


def test_a_batch_that_is_refused_for_its_pace_was_not_bought(tmp_path: Path) -> None:
    with serve_batches(BatchServer(troubles=[429])) as server:
        client = open_client(server, tmp_path)
        assert the_error(ask(client, ONE)).kind is CallErrorKind.RATE
        assert records(tmp_path) == []
        assert texts(ask(client, ONE))


def test_a_long_wait_is_told_of_now_and_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SAY_EVERY", 0.0)
    with serve_batches(BatchServer(delay=0.3)) as server:
        ask(open_client(server, tmp_path), *MANY)
    lines = [record.message for record in caplog.records]
    assert "batch batch_0 of 7 requests is in_progress, 0 of them done" in lines


def test_a_big_batch_goes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_pipeline.llm.batches.client.MOST_BYTES", 2000)
    with serve_batches(BatchServer()) as server:
        assert len(texts(ask(open_client(server, tmp_path), *MANY))) == 7
    assert 1 < len(server.batches) < 7
    assert max(len(server.files[made["input_file_id"]]) for made in server.batches.values()) <= 2000


def test_a_purchase_that_was_left_in_its_event_loop_is_gone_on_with_in_another(
    tmp_path: Path,
) -> None:
    with serve_batches(BatchServer(delay=60)) as server:
        client = open_client(server, tmp_path, poll=30)

        async def leave() -> None:
            asked = asyncio.create_task(client.complete(ONE))
            await asyncio.to_thread(server.is_asked.wait)
            await asyncio.sleep(10 * SOON)
            asked.cancel()

        asyncio.run(leave())
        server.finish()
        assert texts(ask(client, ONE))
    assert len(server.batches) == 1


def test_what_another_process_gives_up_is_bought(tmp_path: Path) -> None:
    with serve_batches(BatchServer()) as server:
        submission = new_submission(MODEL, address_of(server.url), "s", {ONE.call_key: "k"})
        other = start_record(tmp_path / "batches", submission)
        client = open_client(server, tmp_path)

        async def wait_for_the_other() -> ChatReply:
            asked = asyncio.create_task(client.complete(ONE))
            await asyncio.sleep(10 * SOON)
            other.drop()
            reply = await asked
            await client.close()
            return reply

        assert asyncio.run(wait_for_the_other()).text
    assert server.billed == {ONE.call_key: 1}


def test_another_key_stops_the_run_and_the_record_stays(tmp_path: Path) -> None:
    with serve_batches(BatchServer(delay=60, key="sk-first-account")) as server:
        stop_while_waiting(open_client(server, tmp_path, api_key="sk-first-account"), ONE)
        error = the_error(ask(open_client(server, tmp_path, api_key="sk-other-account"), ONE))

    [record] = records(tmp_path)
    assert error.kind is CallErrorKind.FATAL
    assert str(record.path) in str(error)
    assert "sk-other" not in str(error)


def test_a_server_that_refuses_the_key_was_sent_nothing(tmp_path: Path) -> None:
    with serve_batches(BatchServer(key="sk-right-one")) as server:
        error = the_error(ask(open_client(server, tmp_path, api_key="sk-wrong-one"), ONE))
    assert error.kind is CallErrorKind.FATAL
    assert records(tmp_path) == []


def test_a_batch_that_another_process_waits_for_is_not_bought_again(tmp_path: Path) -> None:
    with serve_batches(BatchServer(delay=60)) as server:
        stop_while_waiting(open_client(server, tmp_path), *MANY)
        [other] = records(tmp_path)
        assert other.hold()
        client = open_client(server, tmp_path)

        async def wait_for_the_other() -> str:
            asked = asyncio.create_task(client.complete(MANY[0]))
            await asyncio.sleep(10 * SOON)
            line = {
                "custom_id": MANY[0].call_key,
                "response": {
                    "status_code": 200,
                    "body": {"choices": [{"message": {"content": GOOD}}]},
                },
            }
            other.save_results(json.dumps(line).encode())
            other.release()
            reply = await asked
            await client.close()
            return reply.text

        assert asyncio.run(wait_for_the_other()) == GOOD
    assert len(server.batches) == 1


def test_batches_of_another_model_or_address_are_none_of_ours(tmp_path: Path) -> None:
    with serve_batches(BatchServer()) as server:
        for model, address in [("openai/other", address_of(server.url)), (MODEL, "elsewhere/v1")]:
            submission = new_submission(model, address, "s", {ONE.call_key: ONE.call_key})
            start_record(tmp_path / "batches", submission).release()
        assert texts(ask(open_client(server, tmp_path), ONE))
    assert len(records(tmp_path)) == 3


def test_a_record_holds_neither_prompts_nor_secrets(tmp_path: Path) -> None:
    with serve_batches(BatchServer()) as server:
        server.url = server.url.replace("://", "://user:pass-word@")
        ask(open_client(server, tmp_path, api_key="sk-canary-5f1d"), ONE)
    [record] = records(tmp_path)
    text = record.path.read_text()
    assert record.submission.shard == "pages-00000"
    assert not any(word in text for word in ["Who?", "pass-word", "sk-canary", "user:"])
    assert record.path.stat().st_mode & 0o077 == 0
    assert record.results.stat().st_mode & 0o077 == 0


def test_records_go_when_their_answers_are_in_the_database(tmp_path: Path) -> None:
    pages = iter(['{"persona": 3}', GOOD, GOOD])
    with serve_batches(BatchServer(answer=lambda *_: next(pages))) as server:
        buy(open_client(server, tmp_path), MANY[:2], tmp_path / "journal")
    assert len(records(tmp_path)) == 2  # the second holds the request that was put anew

    forget_bought(tmp_path / "batches", in_database(MANY[1:2]))
    assert len(records(tmp_path)) == 2
    forget_bought(tmp_path / "batches", in_database(MANY[:2]))
    assert list((tmp_path / "batches").iterdir()) == []


def test_records_of_living_processes_stay_and_very_old_ones_go(tmp_path: Path) -> None:
    folder = tmp_path / "batches"
    new, old, held = (
        start_record(folder, new_submission(MODEL, "a/v1", "s", {"k": "k"})) for _ in range(3)
    )
    new.release()
    for record in (old, held):
        submission = replace(record.submission, created_at=time.time() - LONGEST_KEPT - 1)
        text = json.dumps({name: getattr(submission, name) for name in submission.__slots__})
        record.path.write_text(text + "\n")
    old.release()
    forget_bought(folder, Shelf())
    assert {record.path for record in find_records(folder)} == {new.path, held.path}
    held.release()


def test_a_file_that_is_no_record_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "batches").mkdir()
    strange = tmp_path / "batches" / "x.batch.jsonl"
    strange.write_text("{}\n")
    assert records(tmp_path) == []
    assert strange.exists()


def test_trouble_with_the_disk_reaches_who_waits(tmp_path: Path) -> None:
    (tmp_path / "batches").write_text("not a folder")
    with serve_batches(BatchServer()) as server:
        [error] = ask(open_client(server, tmp_path), ONE)
    assert isinstance(error, OSError)


def batch_settings(server: BatchServer, folder: Path, **given: object) -> Settings:
    return load_settings(
        **{
            "data_dir": folder,
            "model": MODEL,
            "api_base": server.url,
            "batch": True,
            "batch_poll_seconds": SOON,
            **given,
        }
    )


def test_batches_nobody_waits_for_are_collected_until_a_run_took_them(tmp_path: Path) -> None:
    with serve_batches(BatchServer(delay=60)) as server:
        settings = batch_settings(server, tmp_path)
        assert collect_finished(settings) == []
        stop_while_waiting(open_client(server, tmp_path), *MANY)
        assert collect_finished(settings) == []
        [living] = records(tmp_path)
        living.hold()
        server.finish()
        assert collect_finished(settings) == []
        living.release()
        collected = [CollectedBatch("batch_0", "pages-00000", 7)]
        assert collect_finished(settings) == collected
    assert collect_finished(settings) == collected  # from the disk: the server is gone

    forget_bought(settings.batches_dir, in_database(MANY))
    assert collect_finished(settings) == []


def test_trouble_with_one_batch_does_not_keep_the_others(tmp_path: Path) -> None:
    with serve_batches(BatchServer()) as server:
        settings = batch_settings(server, tmp_path)
        for address in ("elsewhere/v1", address_of(server.url)):
            submission = new_submission(MODEL, address, "s", {"k": "k"})
            start_record(settings.batches_dir, submission).release()
        ask(open_client(server, tmp_path), ONE)
        server.troubles += [500]
        assert [batch.batch_id for batch in collect_finished(settings)] == ["batch_0"]
        assert len(records(tmp_path)) == 3
        assert [batch.batch_id for batch in collect_finished(settings)] == ["batch_0"]
    assert len(records(tmp_path)) == 2  # what the provider never got is dropped


def test_a_lane_for_batches_costs_half_and_admits_a_whole_batch() -> None:
    settings = load_settings(batch=True, batch_size=70)
    lane = OpenLanes(settings)("openai/gpt-4o-mini")
    full = open_lane(settings, "openai/gpt-4o-mini").price
    assert isinstance(lane.client, BatchChatClient)
    assert isinstance(lane.gate, BatchGate)
    assert (lane.client.max_concurrency, lane.gate.limit, lane.is_paced) == (70, 70, False)
    assert full
    assert lane.price == Price(full.input / 2, full.cached_input / 2, full.output / 2)


def test_an_estimate_in_batches_is_half_and_of_unknown_time(tmp_path: Path, store: Store) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "mill.txt").write_text("How a four-arm windmill is built. " * 9)
    plain = load_settings(
        data_dir=tmp_path,
        source=str(tmp_path / "pages"),
        model="openai/gpt-4o-mini",
        embedding_model="fake/embedder",
        domains=["math"],
    )
    shards = register_source(plain, store, run_id="r")
    full = estimate_run(plain, store, shards)
    batched = estimate_run(plain.model_copy(update={"batch": True}), store, shards)
    assert full.usd
    assert batched.usd == pytest.approx(full.usd / 2)
    assert batched.calls == full.calls
    assert batched.seconds is None


def test_without_batch_and_for_models_of_our_own_nothing_changes() -> None:
    assert not isinstance(OpenLanes(load_settings())(MODEL).client, BatchChatClient)
    assert not isinstance(OpenLanes(load_settings(batch=True))("fake/demo").client, BatchChatClient)


@pytest.mark.parametrize("model", ["anthropic/claude", "mistral/small"])
def test_a_provider_without_batches_is_refused_with_those_that_have_them(model: str) -> None:
    with pytest.raises(ModelError, match=r"openai/\.\.\. and hosted_vllm/\.\.\.") as refused:
        open_batch_lane(load_settings(batch=True), model)
    assert "--batch" in str(refused.value)


def test_a_name_without_a_provider_is_refused_when_it_is_asked(tmp_path: Path) -> None:
    batching = Batching(tmp_path / "batches", gathering=SOON)
    client = BatchChatClient("claude-sonnet-4-5", batching, api_key="k")
    assert the_error(ask(client, ONE)).kind is CallErrorKind.FATAL


def test_the_request_that_asks_again_names_its_origin() -> None:
    cut_off = ChatReply("{", "length")
    wrong = ChatReply('{"persona": 3}')
    empty = ChatReply("")
    origins = [ask_again(ONE, reply, "no").origin for reply in (cut_off, wrong, empty)]
    assert origins == [ONE.call_key, ONE.call_key, ""]


def test_an_open_gate_is_out_only_while_every_batch_is_refused() -> None:
    now = [0.0]
    gate = BatchGate(10, clock=lambda: now[0])

    async def call(outcome: Outcome) -> None:
        gate.leave(await gate.enter(5), outcome)

    asyncio.run(call(Outcome.REFUSED))
    now[0] = 7.0
    assert gate.out_for == 7.0
    asyncio.run(call(Outcome.REFUSED))
    assert gate.out_for == 7.0
    ticket = asyncio.run(gate.enter())
    assert (gate.out_for, gate.in_flight) == (0.0, 1)
    gate.leave(ticket, Outcome.ANSWERED, tokens=3)
    assert (gate.out_for, gate.answered) == (0.0, 1)
    asyncio.run(call(Outcome.REFUSED))
    gate.begin_stage()
    assert gate.out_for == 0.0
