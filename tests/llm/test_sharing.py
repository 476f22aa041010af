"""Test several processes that want the same answers: one buys each answer, all receive it."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from persona_pipeline.llm.clients.fake import FakeChatClient
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.gateway.gateway import Gateway
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.requests import ChatRequest
from persona_pipeline.store.store import Store
from tests.support.purchases import (
    GOOD,
    QUICK,
    MemoryStore,
    ScriptedClient,
    answer_of,
    buy,
    endpoints_of,
    in_turn,
    make_call,
    make_request,
    open_gateway,
)

ROOT = Path(__file__).parents[2]
PAGES = [f"Page {number}" for number in range(300)]
MANY = [make_request(page) for page in PAGES]
PROGRAM = """
import sys
from pathlib import Path
from persona_pipeline.llm.clients.fake import FakeChatClient, instance_of_schema
from tests.support.purchases import make_request, open_gateway

journal_dir, bill = Path(sys.argv[1]), Path(sys.argv[2])

class Billing(FakeChatClient):
    async def complete(self, request, *, attempt=0):
        with bill.open("ab", buffering=0) as file:
            file.write(request.call_key.encode() + b"\\n")
        return await super().complete(request, attempt=attempt)

with open_gateway(Billing(seconds=0.01), journal_dir) as gateway:
    print("ready", flush=True)
    sys.stdin.readline()
    requests = [make_request(f"Page {number}") for number in range(300)]
    answers = gateway.answers(requests, shard="s", stage="t")
    print(*[key for key, answer in answers.items() if answer.status == "ok"], flush=True)
    sys.stdin.readline()
"""


def start_buying(folder: Path, bill: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(bill)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def bills(file: Path) -> Counter[str]:
    return Counter(file.read_text().split()) if file.is_file() else Counter()


def keys_of(requests: list[ChatRequest]) -> list[str]:
    return [request.call_key for request in requests]


def end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def test_two_processes_that_buy_the_same_at_once_pay_for_each_answer_once_and_both_get_all(
    tmp_path: Path,
) -> None:
    bill = tmp_path / "bill"
    both = [start_buying(tmp_path / "journal", bill) for _ in range(2)]
    try:
        assert [hear(process) for process in both] == ["ready", "ready"]
        for process in both:
            go_on(process)
        for process in both:
            assert hear(process).split() == keys_of(MANY)
    finally:
        end(*both)
    assert bills(bill) == dict.fromkeys(keys_of(MANY), 1)


def test_when_one_of_two_is_killed_the_other_finishes_and_pays_again_only_for_calls_in_flight(
    tmp_path: Path,
) -> None:
    bill = tmp_path / "bill"
    killed, other = (start_buying(tmp_path / "journal", bill) for _ in range(2))
    try:
        assert (hear(killed), hear(other)) == ("ready", "ready")
        go_on(killed)
        go_on(other)
        while len(bills(bill)) < 120:
            time.sleep(0.001)
        killed.send_signal(signal.SIGKILL)
        assert hear(other).split() == keys_of(MANY)
    finally:
        end(killed, other)
    paid = bills(bill)
    assert paid.keys() == set(keys_of(MANY))
    assert paid.total() - len(paid) <= FakeChatClient.max_concurrency


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere key locks only work between processes"
)
def test_two_gateways_in_one_process_share_too(tmp_path: Path) -> None:
    clients = [FakeChatClient(seconds=0.002) for _ in range(2)]
    matches: list[list[str]] = []
    threads = [
        threading.Thread(
            target=lambda mine: matches.append(list(buy(mine, MANY, tmp_path))), args=(client,)
        )
        for client in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = Counter(request.call_key for client in clients for request in client.requests)
    assert asked == dict.fromkeys(keys_of(MANY), 1)
    assert matches == [keys_of(MANY)] * 2


def test_an_answer_committed_by_another_process_after_our_lookup_is_found_in_the_store(
    tmp_path: Path,
) -> None:
    theirs = {call.call_key: answer_of(call) for call in map(make_call, PAGES[10:])}

    def answer(_request: ChatRequest, _before: int) -> str:
        if not pending.commits:
            pending.put(theirs)
        return GOOD

    pending, client = MemoryStore(), ScriptedClient(answer, max_concurrency=2)
    with Journal(tmp_path) as journal:
        gateway = Gateway(endpoints_of(client), journal, pending, retry_policy=QUICK)
        answers = gateway.answers(MANY, shard="s", stage="t")
    assert client.asked.keys() == set(keys_of(MANY[:10]))
    assert {key: answers[key] for key in theirs} == theirs
    assert gateway.usage["t"].reused == len(theirs)


def test_an_answer_bought_by_another_process_after_our_lookup_is_found_in_its_journal(
    tmp_path: Path,
) -> None:
    pages = iter(PAGES[10:])

    def answer(_request: ChatRequest, _before: int) -> str:
        for page in pages:
            other.append(make_call(page))
        return GOOD

    client = ScriptedClient(answer, max_concurrency=2)
    with Journal(tmp_path) as other:
        answers = buy(client, MANY, tmp_path)
    assert client.asked.keys() == set(keys_of(MANY[:10]))
    assert len(answers) == len(MANY)


def test_a_request_that_failed_in_another_process_is_sent_by_us(tmp_path: Path) -> None:
    with Journal(tmp_path) as other:
        other.append(make_call(PAGES[0], status="failed"))
        assert other.key_locks.acquire(MANY[0].call_key)
        letting_go = threading.Timer(0.1, other.key_locks.release, [MANY[0].call_key])
        letting_go.start()
        client = ScriptedClient(in_turn(GOOD))
        started = time.monotonic()
        answers = buy(client, MANY[:5], tmp_path)
        assert time.monotonic() - started >= 0.1
        letting_go.join()
    assert client.asked[MANY[0].call_key] == 1
    assert {answer.status for answer in answers.values()} == {"ok"}


def test_while_another_process_buys_an_answer_the_others_are_bought(tmp_path: Path) -> None:
    asked_meanwhile: list[int] = []
    with Journal(tmp_path) as other:
        assert other.key_locks.acquire(MANY[0].call_key)

        def finish() -> None:
            asked_meanwhile.append(client.asked.total())
            other.append(make_call(PAGES[0]))
            other.key_locks.release(MANY[0].call_key)

        finishing = threading.Timer(0.2, finish)
        finishing.start()
        client = ScriptedClient(in_turn(GOOD))
        answers = buy(client, MANY[:50], tmp_path)
        finishing.join()
    assert asked_meanwhile == [49]
    assert client.asked.keys() == set(keys_of(MANY[1:50]))
    assert answers[MANY[0].call_key] == answer_of(make_call(PAGES[0]))


def test_what_is_in_the_store_is_found_although_nothing_is_published(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "1-1.jsonl"
    path.write_bytes(make_call(PAGES[0]).to_line())
    store.replace([], [path], run_id="r")
    store.snapshot.unlink()
    client = ScriptedClient(in_turn(GOOD))
    with Journal(tmp_path / "journal") as journal:
        gateway = Gateway(endpoints_of(client), journal, store, retry_policy=QUICK)
        answers = gateway.answers(MANY[:2], shard="s", stage="t")
    assert client.asked.keys() == {MANY[1].call_key}
    assert answers[MANY[0].call_key] == answer_of(make_call(PAGES[0]))


def test_a_fallback_and_a_request_of_its_own_for_the_same_answer_are_one_purchase() -> None:
    first = ScriptedClient(in_turn(CallError(CallErrorKind.PERMANENT, "too long")))
    other = FakeChatClient(seconds=0.02)
    requests = [make_request(page, model=model) for page in PAGES[:4] for model in ("a/b", "c/d")]
    with open_gateway(first, fallbacks={"c/d": other}) as gateway:
        answers = gateway.answers(requests, shard="s", stage="t")
    assert len(other.requests) == 4
    assert {answer.model for answer in answers.values()} == {"c/d"}
