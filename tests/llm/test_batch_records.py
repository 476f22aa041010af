"""Test batches between processes: records on disk, collection, and what a run reports."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from persona_pipeline.corpus.registration import register_source
from persona_pipeline.estimate import estimate_run
from persona_pipeline.llm.answers import ask_again
from persona_pipeline.llm.batches.api import new_submission
from persona_pipeline.llm.batches.client import BatchChatClient, Batching
from persona_pipeline.llm.batches.collection import CollectedBatch
from persona_pipeline.llm.batches.limiter import BatchLimiter
from persona_pipeline.llm.batches.records import (
    LONGEST_KEPT,
    address_of,
    find_records,
    forget_bought,
    start_record,
)
from persona_pipeline.llm.errors import CallErrorKind, ModelError
from persona_pipeline.llm.gateway.concurrency import Outcome
from persona_pipeline.llm.prices import Price
from persona_pipeline.llm.requests import ChatReply
from persona_pipeline.models import Endpoints, open_batch_endpoint, open_endpoint
from persona_pipeline.project import Project
from persona_pipeline.settings import load_settings
from persona_pipeline.store.store import Store
from tests.support.batch_clients import (
    MANY,
    MODEL,
    ONE,
    SOON,
    ask,
    batch_settings,
    collect,
    in_database,
    open_client,
    records,
    stop_while_waiting,
    texts,
    the_error,
)
from tests.support.batch_server import BatchServer, serve_batches
from tests.support.purchases import GOOD, MemoryStore, buy


def test_a_batch_that_another_process_drops_is_bought(tmp_path: Path) -> None:
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
        stop_while_waiting(open_client(server, tmp_path, api_key="sk-first-account"), tmp_path, ONE)
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
        stop_while_waiting(open_client(server, tmp_path), tmp_path, *MANY)
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


def test_batches_of_another_model_or_address_are_ignored(tmp_path: Path) -> None:
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
    forget_bought(folder, MemoryStore())
    assert {record.path for record in find_records(folder)} == {new.path, held.path}
    held.release()


def test_a_file_that_is_no_record_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "batches").mkdir()
    strange = tmp_path / "batches" / "x.batch.jsonl"
    strange.write_text("{}\n")
    assert records(tmp_path) == []
    assert strange.exists()


def test_a_disk_error_reaches_whoever_waits(tmp_path: Path) -> None:
    (tmp_path / "batches").write_text("not a folder")
    with serve_batches(BatchServer()) as server:
        [error] = ask(open_client(server, tmp_path), ONE)
    assert isinstance(error, OSError)


def test_batches_that_no_process_waits_for_are_collected_until_a_run_has_the_answers(
    tmp_path: Path,
) -> None:
    with serve_batches(BatchServer(delay=60)) as server:
        settings = batch_settings(server, tmp_path)
        assert collect(settings) == []
        stop_while_waiting(open_client(server, tmp_path), tmp_path, *MANY)
        assert collect(settings) == []
        [living] = records(tmp_path)
        living.hold()
        server.finish()
        assert collect(settings) == []
        living.release()
        collected = [CollectedBatch("batch_0", "pages-00000", 7)]
        assert collect(settings) == collected
    assert collect(settings) == collected  # from the disk: the server is gone

    forget_bought(settings.batches_dir, in_database(MANY))
    assert collect(settings) == []


def test_an_error_of_one_batch_does_not_hold_up_the_others(tmp_path: Path) -> None:
    with serve_batches(BatchServer()) as server:
        settings = batch_settings(server, tmp_path)
        for address in ("elsewhere/v1", address_of(server.url)):
            submission = new_submission(MODEL, address, "s", {"k": "k"})
            start_record(settings.batches_dir, submission).release()
        ask(open_client(server, tmp_path), ONE)
        server.troubles += [500]
        assert [batch.batch_id for batch in collect(settings)] == ["batch_0"]
        assert len(records(tmp_path)) == 3
        assert [batch.batch_id for batch in collect(settings)] == ["batch_0"]
    assert len(records(tmp_path)) == 2  # what the provider never got is dropped


def test_a_batch_endpoint_costs_half_and_admits_a_whole_batch() -> None:
    settings = load_settings(batch=True, batch_size=70)
    endpoint = Endpoints(settings)("openai/gpt-4o-mini")
    full = open_endpoint(settings, "openai/gpt-4o-mini").price
    assert isinstance(endpoint.client, BatchChatClient)
    assert isinstance(endpoint.limiter, BatchLimiter)
    assert (endpoint.client.max_concurrency, endpoint.limiter.limit, endpoint.is_paced) == (
        70,
        70,
        False,
    )
    assert full
    assert endpoint.price == Price(full.input / 2, full.cached_input / 2, full.output / 2)


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
    shards = register_source(Project(plain).source_plan, plain, store, run_id="r")
    full = estimate_run(Project(plain), shards)
    batched = estimate_run(Project(plain.model_copy(update={"batch": True})), shards)
    assert full.usd
    assert batched.usd == pytest.approx(full.usd / 2)
    assert batched.calls == full.calls
    assert batched.seconds is None


def test_without_batch_and_for_models_of_our_own_nothing_changes() -> None:
    assert not isinstance(Endpoints(load_settings())(MODEL).client, BatchChatClient)
    assert not isinstance(Endpoints(load_settings(batch=True))("fake/demo").client, BatchChatClient)


@pytest.mark.parametrize("model", ["anthropic/claude", "gemini/flash", "xai/grok", "bedrock/nova"])
def test_a_provider_without_batches_is_refused_with_those_that_have_them(model: str) -> None:
    with pytest.raises(
        ModelError, match=r"hosted_vllm/\.\.\., azure/\.\.\. and mistral"
    ) as refused:
        open_batch_endpoint(load_settings(batch=True), model)
    assert "--batch" in str(refused.value)


def test_a_name_without_a_provider_is_refused_when_it_is_asked(tmp_path: Path) -> None:
    batching = Batching(tmp_path / "batches", gathering=SOON)
    client = BatchChatClient("claude-sonnet-4-5", batching, api_key="k")
    assert the_error(ask(client, ONE)).kind is CallErrorKind.FATAL


def test_a_rephrased_request_names_its_origin() -> None:
    cut_off = ChatReply("{", "length")
    wrong = ChatReply('{"persona": 3}')
    empty = ChatReply("")
    origins = [ask_again(ONE, reply, "no").origin for reply in (cut_off, wrong, empty)]
    assert origins == [ONE.call_key, ONE.call_key, ""]


def test_a_batch_limiter_reports_silence_only_while_every_batch_is_refused() -> None:
    now = [0.0]
    limiter = BatchLimiter(10, clock=lambda: now[0])

    async def call(outcome: Outcome) -> None:
        limiter.leave(await limiter.enter(5), outcome)

    asyncio.run(call(Outcome.REFUSED))
    now[0] = 7.0
    assert limiter.silent_seconds == 7.0
    asyncio.run(call(Outcome.REFUSED))
    assert limiter.silent_seconds == 7.0
    permit = asyncio.run(limiter.enter())
    assert (limiter.silent_seconds, limiter.in_flight) == (0.0, 1)
    limiter.leave(permit, Outcome.ANSWERED, tokens=3)
    assert (limiter.silent_seconds, limiter.answered) == (0.0, 1)
    asyncio.run(call(Outcome.REFUSED))
    limiter.begin_stage()
    assert limiter.silent_seconds == 0.0
