"""The journal: what a killed process leaves, and who may take it over."""

import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.llm.buyer import Buyer
from persona_pipeline.llm.calls import Call, Spent, call_from_line, make_call
from persona_pipeline.llm.fake import FakeChatClient
from persona_pipeline.llm.journal import Journal, read_calls
from persona_pipeline.llm.requests import ChatReply
from tests.library.purchases import GOOD, make_request

SPENT = Spent(attempts=1, tokens_in=3, tokens_out=2, cost_usd=None)
PROGRAM = """
import sys
from pathlib import Path
from persona_pipeline.llm.buyer import Buyer
from persona_pipeline.llm.fake import FakeChatClient, instance_of_schema
from persona_pipeline.llm.journal import Journal
from tests.library.purchases import make_request

journal_dir, bill, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def reply(request):
    with bill.open("ab", buffering=0) as file:
        file.write(request.call_key.encode() + b"\\n")
    return instance_of_schema(request)

with Journal(journal_dir) as journal:
    client = FakeChatClient(reply, seconds=0.01)
    requests = [make_request(f"Page {number}") for number in range(count)]
    Buyer(client, journal, lambda keys: {}).answers(requests, shard="s", stage="t")
    print("bought", flush=True)
    sys.stdin.read()
"""
ROOT = Path(__file__).parents[2]


def make_answer(content: str, *, status: str = "ok", text: str = GOOD) -> Call:
    reply = None if status == "failed" else ChatReply(text)
    return make_call(make_request(content), "s", SPENT, status=status, reply=reply, error=None)


def start_buying(journal_dir: Path, bill: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(journal_dir), str(bill), str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def wait_for_lines(file: Path, count: int) -> None:
    deadline = time.monotonic() + 20
    while not file.is_file() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the other process bought nothing"
        time.sleep(0.005)


def test_a_killed_process_loses_no_more_than_the_calls_in_flight(tmp_path: Path) -> None:
    folder, bill = tmp_path / "journal", tmp_path / "bill"
    process = start_buying(folder, bill, 300)
    wait_for_lines(bill, 60)
    kill(process)
    paid = Counter(bill.read_text().split())
    assert 60 <= len(paid) < 300

    with Journal(folder) as journal:
        adopted = journal.read()
        assert len(paid) - len(adopted) <= FakeChatClient.max_concurrency
        client = FakeChatClient()
        requests = [make_request(f"Page {number}") for number in range(300)]
        calls = Buyer(client, journal, lambda _keys: {}).answers(requests, shard="s", stage="t")
        paid.update(request.call_key for request in client.requests)
        to_commit = {call.call_key: call for call in journal.uncommitted()}
        journal.committed()

    assert to_commit == calls
    assert len(calls) == 300
    assert paid.total() - len(paid) <= FakeChatClient.max_concurrency
    assert list(folder.iterdir()) == []


def test_a_living_process_keeps_its_journal_while_another_reads_and_commits(tmp_path: Path) -> None:
    folder, bill = tmp_path / "journal", tmp_path / "bill"
    process = start_buying(folder, bill, 5)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "bought\n"
        with Journal(folder) as journal:
            journal.append(make_answer("mine"))
            assert len(journal.read()) == 6
            assert [call.call_key for call in journal.uncommitted()] == [
                make_request("mine").call_key
            ]
            journal.committed()
            assert len(journal.read()) == 5
    finally:
        kill(process)
    with Journal(folder) as journal:
        assert len(journal.uncommitted()) == 5


def test_two_journals_of_one_process_do_not_take_over_each_other(tmp_path: Path) -> None:
    with Journal(tmp_path) as first, Journal(tmp_path) as second:
        first.append(make_answer("a"))
        second.append(make_answer("b"))
        assert len(first.uncommitted()) == 1
        first.committed()
        assert len(second.uncommitted()) == 1


def test_a_journal_is_never_seen_without_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Path]] = []
    lock = "persona_pipeline.llm.journal.fcntl.flock"
    monkeypatch.setattr(lock, lambda *_: seen.append(list(tmp_path.glob("*.jsonl"))))
    Journal(tmp_path).__exit__(None, None, None)
    assert seen == [[]]


def test_a_journal_without_answers_leaves_no_file(tmp_path: Path) -> None:
    with Journal(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_committed_is_there_for_the_next_process(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(make_answer("a"))
        journal.uncommitted()
    with Journal(tmp_path) as journal:
        assert journal.uncommitted() == [make_answer("a")]


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    whole, torn = make_answer("a").to_line(), make_answer("b").to_line()
    (tmp_path / "1-1.jsonl").write_bytes(whole + torn[:-20])
    (tmp_path / "1-2.jsonl").write_bytes(whole + torn[:-1])
    with Journal(tmp_path) as journal:
        assert journal.uncommitted() == [make_answer("a")]


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{}\n", b'{"call_key": "a"}\n', b"\xff\n"])
def test_a_line_of_something_else_is_no_call(line: bytes) -> None:
    assert call_from_line(line) is None


@given(st.text())
def test_an_answer_is_one_line_and_comes_back_as_it_was(text: str) -> None:
    call = make_answer("a", text=text)
    assert call.to_line().count(b"\n") == 1
    assert call_from_line(call.to_line()) == call


@pytest.mark.parametrize("failure_first", [True, False])
def test_of_a_failure_and_an_answer_to_one_request_the_answer_counts(
    tmp_path: Path, *, failure_first: bool
) -> None:
    answer = make_answer("a")
    calls = [make_answer("a", status="failed"), answer]
    with Journal(tmp_path) as journal:
        for call in calls if failure_first else reversed(calls):
            journal.append(call)
        assert journal.read() == {answer.call_key: answer}
        assert journal.uncommitted() == [answer]


def test_a_journal_that_was_deleted_meanwhile_holds_nothing(tmp_path: Path) -> None:
    assert list(read_calls(tmp_path / "gone.jsonl")) == []


def test_an_invalid_answer_is_an_answer_and_a_failure_is_not() -> None:
    answer = make_answer("a")
    assert answer.is_answer
    assert replace(answer, status="invalid").is_answer
    assert not replace(answer, status="failed").is_answer
