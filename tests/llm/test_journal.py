"""Test the journal: what a killed process leaves, and who may adopt it."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.llm.calls import Answer, Call, answer_from_line
from persona_pipeline.llm.clients.fake import FakeChatClient
from persona_pipeline.llm.gateway.journal import Journal
from tests.support.purchases import answer_of, buy, make_call, make_request

PROGRAM = """
import sys
from pathlib import Path
from persona_pipeline.llm.clients.fake import FakeChatClient, instance_of_schema
from tests.support.purchases import make_request, open_gateway

journal_dir, bill, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def reply(request):
    with bill.open("ab", buffering=0) as file:
        file.write(request.call_key.encode() + b"\\n")
    return instance_of_schema(request)

with open_gateway(FakeChatClient(reply, seconds=0.01), journal_dir) as gateway:
    requests = [make_request(f"Page {number}") for number in range(count)]
    gateway.answers(requests, shard="s", stage="t")
    print("bought", flush=True)
    sys.stdin.read()
"""
ROOT = Path(__file__).parents[2]


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
    deadline = time.monotonic() + 300
    while not file.is_file() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the other process bought nothing"
        time.sleep(0.005)


def keys_of(*contents: str) -> list[str]:
    return [make_request(content).call_key for content in contents]


def find(journal: Journal, *contents: str) -> dict[str, Answer]:
    journal.index.refresh()
    return journal.index.find_all(keys_of(*contents))


def to_commit(journal: Journal) -> list[Call]:
    """Return the calls in the files that the next commit must include."""
    lines = [line for path in journal.to_commit() for line in path.read_bytes().splitlines()]
    return [Call(**json.loads(line)) for line in lines]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_process_loses_no_more_than_the_calls_in_flight(tmp_path: Path) -> None:
    folder, bill = tmp_path / "journal", tmp_path / "bill"
    process = start_buying(folder, bill, 300)
    wait_for_lines(bill, 60)
    kill(process)
    paid = Counter(bill.read_text().split())
    assert 60 <= len(paid) < 300

    pages = [f"Page {number}" for number in range(300)]
    with Journal(folder) as journal:
        assert len(paid) - len(find(journal, *pages)) <= FakeChatClient.max_concurrency
    client = FakeChatClient()
    answers = buy(client, [make_request(page) for page in pages], folder)
    paid.update(request.call_key for request in client.requests)
    with Journal(folder) as journal:
        committed = {call.call_key: answer_of(call) for call in to_commit(journal)}
        journal.committed()

    assert committed == {key: replace_class(answer) for key, answer in answers.items()}
    assert len(answers) == 300
    assert paid.total() - len(paid) <= FakeChatClient.max_concurrency
    assert files_in(folder) == ["claims"]


def replace_class(answer: Answer) -> Answer:
    """Return a whole call, as an answer that was just bought."""
    return answer_of(answer) if isinstance(answer, Call) else answer


def test_a_living_process_keeps_its_journal_while_another_reads_and_commits(tmp_path: Path) -> None:
    folder, bill = tmp_path / "journal", tmp_path / "bill"
    pages = [f"Page {number}" for number in range(5)]
    process = start_buying(folder, bill, 5)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "bought\n"
        with Journal(folder) as journal:
            journal.append(make_call("mine"))
            assert len(find(journal, "mine", *pages)) == 6
            assert to_commit(journal) == [make_call("mine")]
            journal.committed()
            assert find(journal, "mine", *pages).keys() == set(keys_of(*pages))
    finally:
        kill(process)
    with Journal(folder) as journal:
        assert len(to_commit(journal)) == 5


def test_two_journals_of_one_process_do_not_take_over_each_other(tmp_path: Path) -> None:
    with Journal(tmp_path) as first, Journal(tmp_path) as second:
        first.append(make_call("a"))
        second.append(make_call("b"))
        assert to_commit(first) == [make_call("a")]
        first.committed()
        assert to_commit(second) == [make_call("b")]


def test_a_journal_is_never_seen_without_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Path]] = []
    lock = "persona_pipeline.llm.gateway.journal.fcntl.flock"
    monkeypatch.setattr(lock, lambda *_: seen.append(list(tmp_path.glob("*.jsonl"))))
    Journal(tmp_path).__exit__(None, None, None)
    assert seen == [[]]


def test_a_journal_without_answers_leaves_only_the_empty_lock_file(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path):
        pass
    assert files_in(tmp_path) == ["claims"]
    assert (tmp_path / "claims").stat().st_size == 0


def test_what_is_not_committed_is_there_for_the_next_process(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(make_call("a"))
        journal.to_commit()
    with Journal(tmp_path) as journal:
        assert to_commit(journal) == [make_call("a")]
        assert find(journal, "a") == {make_call("a").call_key: answer_of(make_call("a"))}


def test_what_was_committed_is_not_committed_again(tmp_path: Path) -> None:
    (tmp_path / "1-1.jsonl").write_bytes(make_call("a").to_line())
    with Journal(tmp_path) as journal:
        journal.append(make_call("b"))
        assert to_commit(journal) == [make_call("a"), make_call("b")]
        journal.committed()
        assert journal.to_commit() == []
        assert find(journal, "a", "b") == {}
        journal.append(make_call("c"))
        assert to_commit(journal) == [make_call("c")]


def test_a_torn_last_line_is_skipped(tmp_path: Path) -> None:
    whole, torn = make_call("a").to_line(), make_call("b").to_line()
    (tmp_path / "1-1.jsonl").write_bytes(whole + torn[:-20])
    (tmp_path / "1-2.jsonl").write_bytes(whole + torn[:-1])
    (tmp_path / "1-3.jsonl").write_bytes(torn[:-1])
    with Journal(tmp_path) as journal:
        assert to_commit(journal) == [make_call("a")] * 2
        journal.committed()
        assert len(files_in(tmp_path)) == 2


@pytest.mark.parametrize("is_renamed", [False, True])
def test_a_dead_process_s_file_that_another_process_just_committed_is_not_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_renamed: bool
) -> None:
    orphan = tmp_path / "1-1.jsonl"
    with Journal(tmp_path) as journal:
        orphan.write_bytes(make_call("a").to_line())

        def commit_meanwhile(*_: object) -> None:
            if is_renamed:
                orphan.rename(orphan.with_suffix(".unreadable"))
            else:
                orphan.unlink()

        with monkeypatch.context() as patched:
            patched.setattr("persona_pipeline.llm.gateway.journal.fcntl.flock", commit_meanwhile)
            assert journal.to_commit() == []
        journal.committed()
    assert files_in(tmp_path) == (["1-1.unreadable", "claims"] if is_renamed else ["claims"])


def test_a_dead_process_s_lines_that_are_no_journal_s_are_kept_when_the_others_are_committed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = make_call("a").to_line() + b"something else\n" + make_call("b").to_line()
    with Journal(tmp_path) as journal:
        (tmp_path / "1-1.jsonl").write_bytes(lines)
        [orphan] = journal.to_commit()
        assert orphan.read_bytes() == lines
        with caplog.at_level(logging.WARNING):
            journal.committed()
        assert (tmp_path / "1-1.unreadable").read_bytes() == lines
        assert journal.to_commit() == []
        assert find(journal, "a", "b") == {}
    assert caplog.messages == [
        f"1 lines are not journal lines: their file is kept as {tmp_path / '1-1.unreadable'}"
    ]


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{}\n", b'{"call_key": "a"}\n', b"\xff\n"])
def test_a_line_of_something_else_is_no_answer(line: bytes) -> None:
    assert answer_from_line(line) is None


def test_a_line_of_another_version_is_read_by_what_it_shares_with_ours() -> None:
    row = asdict(make_call("a"))
    newer = json.dumps({**row, "new_column": 1}).encode()
    assert answer_from_line(newer + b"\n") == answer_of(make_call("a"))


@given(st.text())
def test_an_answer_is_one_line_and_is_read_unchanged(text: str) -> None:
    call = make_call("a", text=text)
    assert call.to_line().count(b"\n") == 1
    assert answer_from_line(call.to_line()) == answer_of(call)
    assert Call(**json.loads(call.to_line())) == call


@pytest.mark.parametrize("failure_first", [True, False])
def test_of_a_failure_and_an_answer_to_one_request_the_answer_counts(
    tmp_path: Path, *, failure_first: bool
) -> None:
    answer = make_call("a")
    calls = [make_call("a", status="failed"), answer]
    with Journal(tmp_path) as journal:
        for call in calls if failure_first else reversed(calls):
            journal.append(call)
        assert find(journal, "a") == {answer.call_key: answer_of(answer)}
        assert len(to_commit(journal)) == 2


def test_an_invalid_answer_was_bought_and_a_failure_was_not() -> None:
    answer = make_call("a")
    assert answer.is_bought
    assert replace(answer, status="invalid").is_bought
    assert not replace(answer, status="failed").is_bought


def test_appended_lines_can_be_flushed_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with Journal(tmp_path) as journal:
        journal.sync()
        journal.append(make_call("a"))
        journal.append(make_call("b"))
        journal.sync()
        journal.sync()
    assert len(synced) == 1
