"""Test finding answers in journal files while others write, empty or delete them."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.llm.calls import Answer, Call
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.gateway.journal_index import READ_SIZE, JournalIndex
from tests.support.purchases import answer_of, make_call, make_request


@contextmanager
def opened(folder: Path) -> Iterator[JournalIndex]:
    with closing(JournalIndex(folder)) as index:
        index.refresh()
        yield index


def find(index: JournalIndex, *calls: Call) -> list[Answer]:
    """Return those of these calls' answers that the index finds after a refresh."""
    index.refresh()
    return list(index.find_all([call.call_key for call in calls]).values())


def test_an_answer_of_another_journal_is_found_after_a_refresh(tmp_path: Path) -> None:
    first, second = make_call("a"), make_call("b", status="invalid")
    with opened(tmp_path) as index, Journal(tmp_path) as other:
        assert find(index, first, second) == []
        other.append(first)
        assert index.find(first.call_key) is None
        assert find(index, first, second) == [answer_of(first)]
        other.append(second)
        assert find(index, first, second) == [answer_of(first), answer_of(second)]
        assert index.find(make_request("unknown").call_key) is None


def test_a_failed_call_is_no_answer_and_hides_none(tmp_path: Path) -> None:
    answer = make_call("a")
    with opened(tmp_path) as index, Journal(tmp_path) as other:
        for call in (make_call("b", status="failed"), answer, make_call("a", status="failed")):
            other.append(call)
        assert find(index, answer, make_call("b")) == [answer_of(answer)]


def test_answers_that_another_journal_committed_are_gone_and_newer_ones_are_found(
    tmp_path: Path,
) -> None:
    calls = [make_call(str(number)) for number in range(6)]
    with opened(tmp_path) as index, Journal(tmp_path) as other:
        other.append(calls[0])
        assert find(index, *calls) == [answer_of(calls[0])]
        other.committed()
        for call in calls[1:]:
            other.append(call)
        assert find(index, *calls) == [answer_of(call) for call in calls[1:]]


def test_a_file_that_was_emptied_holds_nothing_until_it_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "1-1.jsonl"
    first, second = make_call("a", text="A long answer."), make_call("b", text="")
    path.write_bytes(first.to_line())
    with opened(tmp_path) as index:
        os.truncate(path, 0)
        assert find(index, first, second) == []
        path.write_bytes(second.to_line())
        assert find(index, first, second) == [answer_of(second)]


def test_a_file_that_was_deleted_holds_nothing(tmp_path: Path) -> None:
    paths = [tmp_path / "1-1.jsonl", tmp_path / "1-2.jsonl"]
    first, second = make_call("a"), make_call("b")
    for path, call in zip(paths, (first, second), strict=True):
        path.write_bytes(call.to_line())
    with opened(tmp_path) as index:
        assert len(find(index, first, second)) == 2
        paths[0].unlink()
        assert find(index, first, second) == [answer_of(second)]


def test_a_file_created_in_the_same_clock_tick_as_the_last_refresh_is_found(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as index:
        seen_at = tmp_path.stat().st_mtime_ns
        (tmp_path / "1-1.jsonl").write_bytes(make_call("a").to_line())
        os.utime(tmp_path, ns=(seen_at, seen_at))
        assert find(index, make_call("a")) == [answer_of(make_call("a"))]


def test_a_torn_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path, call = tmp_path / "1-1.jsonl", make_call("b")
    whole = make_call("a").to_line()
    for cut in (1, 20, len(call.to_line()) - 1):
        path.write_bytes(whole + call.to_line()[:cut])
        with opened(tmp_path) as index:
            assert find(index, call, make_call("a")) == [answer_of(make_call("a"))]
            with path.open("ab") as file:
                file.write(call.to_line()[cut:])
            assert find(index, call) == [answer_of(call)]
            assert index.unreadable_lines(path) == 0


def test_lines_longer_than_a_block_are_read(tmp_path: Path) -> None:
    calls = [
        make_call("small"),
        make_call("huge", text="ä" * 2 * READ_SIZE),
        make_call("block", text="x" * READ_SIZE),
        make_call("last"),
    ]
    with opened(tmp_path) as index, Journal(tmp_path) as other:
        for call in calls:
            other.append(call)
        assert find(index, *calls) == [answer_of(call) for call in calls]


def test_lines_are_read_whole_wherever_a_block_ends(tmp_path: Path) -> None:
    line = len(make_call("0", text="").to_line())
    sizes = [READ_SIZE // 2 - line, READ_SIZE // 2 - line, 0, READ_SIZE - 3 * line - 1, 0, 5]
    calls = [make_call(str(number), text="x" * size) for number, size in enumerate(sizes)]
    (tmp_path / "1-1.jsonl").write_bytes(b"".join(call.to_line() for call in calls))
    with opened(tmp_path) as index:
        assert find(index, *calls) == [answer_of(call) for call in calls]


def test_lines_that_are_not_journal_lines_are_counted_and_skipped(tmp_path: Path) -> None:
    path, calls = tmp_path / "1-1.jsonl", [make_call("a"), make_call("b")]
    foreign = [b"\n", b"something else\n", b"[1]\n", b"\xff\xfe\n", b'{"call_key":"a"}\n']
    path.write_bytes(calls[0].to_line() + b"".join(foreign) + calls[1].to_line() + b"torn")
    with opened(tmp_path) as index:
        assert find(index, *calls) == [answer_of(call) for call in calls]
        assert index.unreadable_lines(path) == len(foreign)
        assert index.unreadable_lines(tmp_path / "unknown.jsonl") == 0


def test_a_key_that_shares_its_first_half_with_another_is_not_taken_for_it(tmp_path: Path) -> None:
    call = make_call("a")
    twin = replace(call, call_key=call.call_key[:16] + "0" * 16)
    with opened(tmp_path) as index, Journal(tmp_path) as other:
        other.append(call)
        assert find(index, twin) == []


def test_what_is_no_journal_s_file_is_not_read(tmp_path: Path) -> None:
    for name in ("claims", "1-1.new", "1-1.unreadable"):
        (tmp_path / name).write_bytes(make_call("a").to_line())
    with opened(tmp_path) as index:
        assert find(index, make_call("a")) == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "fail", "tear", "commit", "leave", "refresh"]),
        st.integers(0, 2),
        st.sampled_from([0, 1, 300, READ_SIZE]),
    ),
    max_size=30,
)


@dataclass(slots=True)
class Writers:
    """Write several journals in one folder, and keep the answers on disk to compare with."""

    folder: Path
    journals: dict[int, Journal] = field(default_factory=dict)
    held: dict[int, dict[str, Answer]] = field(default_factory=lambda: defaultdict(dict))
    left: dict[str, Answer] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)

    def take(self, step: str, writer: int, size: int) -> None:
        if writer not in self.journals:
            self.journals[writer] = Journal(self.folder)
        match step:
            case "append":
                call = self._call(size)
                self.journals[writer].append(call)
                self.held[writer][call.call_key] = answer_of(call)
            case "fail":
                self.journals[writer].append(replace(self._call(size), status="failed"))
            case "tear":
                torn = self._call(size).to_line()[:-9]
                (self.folder / f"0-{len(self.keys)}.jsonl").write_bytes(torn)
            case "commit":
                self.journals[writer].committed()
                self.held[writer].clear()
            case "leave":
                self.journals.pop(writer).__exit__(None, None, None)
                self.left |= self.held.pop(writer, {})

    def _call(self, size: int) -> Call:
        call = make_call(str(len(self.keys)), text="x" * size)
        self.keys.append(call.call_key)
        return call

    def expected(self) -> dict[str, Answer]:
        return self.left | {
            key: answer for held in self.held.values() for key, answer in held.items()
        }


@given(STEPS)
def test_whatever_is_appended_committed_and_left_exactly_what_is_there_is_found(
    steps: list[tuple[str, int, int]],
) -> None:
    with TemporaryDirectory() as folder, opened(Path(folder)) as index:
        writers = Writers(Path(folder))
        for step, writer, size in [*steps, ("refresh", 0, 0)]:
            if step == "refresh":
                index.refresh()
                assert index.find_all(writers.keys) == writers.expected()
            else:
                writers.take(step, writer, size)
        for writer in list(writers.journals):
            writers.take("leave", writer, 0)
