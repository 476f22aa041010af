"""Test that a batch buys each request once, whenever and however the waiting process ends."""

import asyncio
import logging
from pathlib import Path

import pytest

from persona_pipeline.llm.batches import waiting
from persona_pipeline.llm.batches.api import new_submission
from persona_pipeline.llm.batches.records import address_of, start_record
from persona_pipeline.llm.clients.direct import DirectChatClient
from persona_pipeline.llm.errors import CallErrorKind, ModelError
from persona_pipeline.llm.requests import ChatReply
from tests.support.batch_clients import (
    MANY,
    MODEL,
    ONE,
    SOON,
    ask,
    check_one_batch,
    count_prompt,
    open_client,
    records,
    stop_while_waiting,
    texts,
    the_error,
)
from tests.support.batch_server import BatchServer, Json, answer_schema, serve_batches
from tests.support.faulty_server import chat, serve
from tests.support.purchases import GOOD, buy


def test_requests_travel_together_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    with serve_batches(BatchServer(answer=count_prompt)) as server:
        answers = buy(open_client(server, tmp_path), MANY, tmp_path / "journal")

    check_one_batch(server, MANY, answers)


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


def test_only_the_requests_that_failed_are_submitted_again(tmp_path: Path) -> None:
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


def test_a_request_that_can_never_be_answered_is_not_retried(tmp_path: Path) -> None:
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
        stop_while_waiting(open_client(server, tmp_path), tmp_path, *MANY)
        server.finish()
        assert len(texts(ask(open_client(server, tmp_path), *MANY[2:], ONE))) == 6

    assert [batch["status"] for batch in server.batches.values()] == ["completed"] * 2
    assert len(server.billed) == 8
    assert server.billed_twice == 0


def test_a_batch_whose_creation_got_no_answer_is_found_by_its_name(tmp_path: Path) -> None:
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


def test_a_submission_that_never_arrived_is_sent_again(tmp_path: Path) -> None:
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


def test_a_long_wait_is_logged_now_and_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOG_EVERY", 0.0)
    with serve_batches(BatchServer(delay=0.3)) as server:
        ask(open_client(server, tmp_path), *MANY)
    lines = [record.message for record in caplog.records]
    assert "batch batch_0 of 7 requests is in_progress, 0 of them done" in lines


def test_a_big_batch_goes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_pipeline.llm.batches.client.MOST_BYTES", 2000)
    with serve_batches(BatchServer()) as server:
        assert len(texts(ask(open_client(server, tmp_path), *MANY))) == 7
    assert 1 < len(server.batches) < 7
    assert (
        max(len(server.files[result["input_file_id"]]) for result in server.batches.values())
        <= 2000
    )


def test_a_purchase_that_was_left_in_one_event_loop_goes_on_in_another(
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
