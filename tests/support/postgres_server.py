"""Start a PostgreSQL server for a test, on a free port and in a folder of its own."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

PASSWORD = "p@ss/wörd %1"  # noqa: S105 - of a server that lives for one test
"""Password with characters that a URL must escape."""
USER = "dagster"
FASTER = ["-c", "fsync=off", "-c", "full_page_writes=off"]


def postgres_programs() -> Path | None:
    """Return the folder of initdb and postgres, which Debian keeps off the PATH."""
    program = shutil.which("initdb")
    folders = [Path(program).resolve().parent] if program else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").is_file()), None)


@contextmanager
def serve_postgres(programs: Path) -> Iterator[dict[str, str]]:
    """Start a server; yield the environment with which deploy/dagster.postgres.yaml finds it."""
    owner = _owner()
    with tempfile.TemporaryDirectory() as name:  # a test's own folder is closed to other users
        folder = Path(name)
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        for path in (folder, folder / "password"):
            shutil.chown(path, owner)
        data = ["-D", str(folder / "data")]
        initdb = [str(programs / "initdb"), *data, "-U", USER, "-E", "UTF8", "--no-sync"]
        initdb += ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
        subprocess.run(initdb, user=owner, cwd=folder, check=True, capture_output=True)
        port = _free_port()
        postgres = [str(programs / "postgres"), *data, "-p", str(port), "-k", str(folder)]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen([*postgres, *FASTER], user=owner, cwd=folder, stderr=log)
        environment = {
            "DAGSTER_POSTGRES_HOST": "127.0.0.1",
            "DAGSTER_POSTGRES_PORT": str(port),
            "DAGSTER_POSTGRES_USER": USER,
            "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
            "DAGSTER_POSTGRES_DB": "postgres",
        }
        try:
            _wait_for(environment, folder / "log")
            yield environment
        finally:
            server.send_signal(signal.SIGINT)  # without waiting for who is connected
            server.wait(timeout=300)


def rows(environment: dict[str, str], query: str) -> list[tuple[object, ...]]:
    """Return the rows that the server answers."""
    with closing(_connect(environment)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def _owner() -> str | int:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return os.geteuid()
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _connect(environment: dict[str, str]) -> "psycopg2.extensions.connection":
    return psycopg2.connect(
        host=environment["DAGSTER_POSTGRES_HOST"],
        port=environment["DAGSTER_POSTGRES_PORT"],
        user=environment["DAGSTER_POSTGRES_USER"],
        password=environment["DAGSTER_POSTGRES_PASSWORD"],
        dbname=environment["DAGSTER_POSTGRES_DB"],
    )


def _wait_for(environment: dict[str, str], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            _connect(environment).close()
        except psycopg2.OperationalError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"PostgreSQL did not start:\n{log.read_text(encoding='utf-8')}")
