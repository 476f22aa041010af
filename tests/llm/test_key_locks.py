"""Test the locks on keys: between processes, and within one."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.gateway.key_locks import KeyLocks

ROOT = Path(__file__).parents[2]
KEY, OTHER = stable_id("a"), stable_id("b")
HOLDER = """
import sys
from pathlib import Path
from persona_pipeline.llm.gateway.key_locks import KeyLocks

key_locks = KeyLocks(Path(sys.argv[1]))
print(*[key_locks.acquire(key) for key in sys.argv[2:]], flush=True)
for line in sys.stdin:
    key_locks.release(line.strip())
    print("released", flush=True)
"""
needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the locks of one process do not see each other"
)


class Holder:
    """Start another process that locks some keys."""

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path), *keys],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.took = self.hear().split()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def release(self, key: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{key}\n")
        self.process.stdin.flush()
        assert self.hear() == "released"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@contextmanager
def held_elsewhere(path: Path, *keys: str) -> Iterator[Holder]:
    holder = Holder(path, keys)
    try:
        yield holder
    finally:
        holder.kill()


def test_a_key_locked_by_another_process_is_free_once_that_releases_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "locks"
    with held_elsewhere(path, KEY) as holder, closing(KeyLocks(path)) as key_locks:
        assert holder.took == ["True"]
        assert not key_locks.acquire(KEY)
        assert key_locks.acquire(OTHER)
        holder.release(KEY)
        assert key_locks.acquire(KEY)


def test_a_key_that_we_hold_cannot_be_locked_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    with closing(KeyLocks(path)) as key_locks:
        assert key_locks.acquire(KEY)
        with held_elsewhere(path, KEY, OTHER) as holder:
            assert holder.took == ["False", "True"]


def test_the_locks_of_a_killed_process_are_free(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    with held_elsewhere(path, KEY) as holder, closing(KeyLocks(path)) as key_locks:
        assert not key_locks.acquire(KEY)
        holder.kill()
        assert key_locks.acquire(KEY)


def test_many_keys_are_locked_at_once_and_the_file_stays_empty(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    keys = [stable_id(number) for number in range(1000)]
    with closing(KeyLocks(path)) as key_locks:
        assert all(key_locks.acquire(key) for key in keys)
        with held_elsewhere(path, *keys[:3], OTHER) as holder:
            assert holder.took == ["False"] * 3 + ["True"]
        for key in keys[1:]:
            key_locks.release(key)
        with held_elsewhere(path, *keys[:3]) as holder:
            assert holder.took == ["False", "True", "True"]
    assert path.stat().st_size == 0


@needs_linux
def test_two_gateways_in_one_process_see_each_other_s_locks(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    with closing(KeyLocks(path)) as first, closing(KeyLocks(path)) as second:
        assert first.acquire(KEY)
        assert not second.acquire(KEY)
        assert second.acquire(OTHER)
        assert not first.acquire(OTHER)
        first.release(KEY)
        assert second.acquire(KEY)


@needs_linux
def test_closing_releases_all_locks_of_one_gateway_and_none_of_another(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    first = KeyLocks(path)
    with closing(KeyLocks(path)) as second, closing(KeyLocks(path)) as third:
        assert first.acquire(KEY)
        assert second.acquire(OTHER)
        first.close()
        assert third.acquire(KEY)
        assert not third.acquire(OTHER)


def test_a_key_that_we_hold_cannot_be_locked_again(tmp_path: Path) -> None:
    with closing(KeyLocks(tmp_path / "locks")) as key_locks:
        assert key_locks.acquire(KEY)
        assert not key_locks.acquire(KEY)
        key_locks.release(KEY)
        assert key_locks.acquire(KEY)


def test_releasing_a_key_that_is_not_locked_does_no_harm(tmp_path: Path) -> None:
    with closing(KeyLocks(tmp_path / "locks")) as key_locks:
        key_locks.release(KEY)
        assert key_locks.acquire(KEY)


@needs_linux
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.sampled_from("abcd")), max_size=20))
def test_at_any_time_at_most_one_of_two_holders_has_a_key(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "locks"
    holders: dict[str, int] = {}
    with closing(KeyLocks(path)) as first, closing(KeyLocks(path)) as second:
        for is_taking, who, name in steps:
            key_locks, key = (first, second)[who], stable_id(name)
            if is_taking:
                assert key_locks.acquire(key) is (key not in holders)
                holders.setdefault(key, who)
            else:
                key_locks.release(key)
                if holders.get(key) == who:
                    del holders[key]
