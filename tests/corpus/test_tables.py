"""Test Parquet, and the sources that DuckDB reads."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import duckdb
import pytest

from persona_pipeline.corpus import remote
from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.sources import read_source
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.http_server import serve_http

OPTIONS = CorpusOptions(min_chars=3)


def write_parquet(path: Path, select: str, options: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"copy ({select}) to '{path}' (format parquet {options})")
    return path


def read(spec: object, options: CorpusOptions = OPTIONS) -> list[Document | RejectedDocument]:
    return list(read_source(str(spec), options))


def get_texts(rows: list[Document | RejectedDocument]) -> list[str]:
    return [row.text for row in rows if isinstance(row, Document)]


def test_each_parquet_row_is_a_document_or_rejected_under_its_number(tmp_path: Path) -> None:
    select = """
        select * from (values
            (1, 'first', 'x:1', 'en', current_date, 'Locks'), (2, null, 'x:2', null, null, null),
            (3, '', 'x:3', null, null, null), (4, 'fourth', null, null, null, null)
        ) as page(id, text, url, language, license, topic)"""
    file = write_parquet(tmp_path / "a.parquet", select)
    first, second, third, fourth = read(file)
    assert first == Document(
        "first", "a.parquet", "x:1", "en", None, None, "a.parquet", 1, topic="Locks"
    )
    assert fourth == Document(
        "fourth", "a.parquet", f"{file.as_uri()}#L4", file="a.parquet", line=4
    )
    assert second == RejectedDocument(
        Reason.MISSING_TEXT, "'text' is null", "a.parquet", "a.parquet", 2
    )
    assert isinstance(third, RejectedDocument)
    assert (third.reason, third.line) == (Reason.EMPTY, 3)


def test_a_parquet_file_without_the_text_column_is_rejected_once(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", "select 1 as id, 'a' as body from range(5)")
    (row,) = read(file)
    assert isinstance(row, RejectedDocument)
    assert (row.reason, row.line) == (Reason.MISSING_TEXT, None)
    assert row.detail == "no field 'text'; set text_field to one of: 'id', 'body'"


def test_a_column_name_is_never_read_as_sql(tmp_path: Path) -> None:
    name = 'te"xt, 1'
    file = write_parquet(tmp_path / "a.parquet", 'select \'first\' as "te""xt, 1"')
    assert get_texts(read(file, CorpusOptions(text_field=name, min_chars=1))) == ["first"]


def test_a_text_column_of_another_type_is_a_wrong_type(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", "select 7 as text union all select 8")
    rows = read(file)
    assert [(row.reason, row.line) for row in rows if isinstance(row, RejectedDocument)] == [
        (Reason.WRONG_TYPE, 1),
        (Reason.WRONG_TYPE, 2),
    ]


def test_a_folder_named_like_a_partition_changes_no_column(tmp_path: Path) -> None:
    write_parquet(tmp_path / "text=wrong" / "a.parquet", "select 'right' as text")
    assert get_texts(read(tmp_path)) == ["right"]


def test_a_file_name_with_wildcards_is_only_itself(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a1.parquet", "select 'wrong' as text")
    file = write_parquet(tmp_path / "a[1]*?.parquet", "select 'right' as text")
    assert get_texts(read(file)) == ["right"]


def test_rows_before_and_behind_damage_in_a_parquet_file_are_kept(tmp_path: Path) -> None:
    select = "select 'text ' || md5(i::varchar) as text from range(20000) row(i)"
    file = write_parquet(tmp_path / "a.parquet", select, ", row_group_size 2048")
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 5000] = b"\xff" * 5000
    file.write_bytes(data)
    rows = read(file)
    assert [row.line for row in rows] == list(range(1, 20001))
    assert len(get_texts(rows)) >= 20000 - 2 * 2048
    assert isinstance(rows[-1], Document)


@pytest.mark.parametrize("content", [b"", b"PAR1 is not enough PAR1", b"PAR1" + b"\0" * 500])
def test_what_is_not_parquet_is_a_broken_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    (row,) = read(tmp_path / "a.parquet")
    assert isinstance(row, RejectedDocument)
    assert (row.reason, row.line) == (Reason.BROKEN_FILE, None)
    assert "\n" not in row.detail


def test_a_table_function_with_one_literal_is_a_source(tmp_path: Path) -> None:
    write_parquet(tmp_path / "b.bin", "select 'b one' as text union all select 'b two'")
    write_parquet(tmp_path / "a.bin", "select 'a one' as text")
    rows = read(f"read_parquet('{tmp_path}/*.bin')")
    assert [(row.source, row.file, row.line) for row in rows] == [
        ("*.bin", "a.bin", 1),
        ("*.bin", "b.bin", 1),
        ("*.bin", "b.bin", 2),
    ]
    assert get_texts(rows) == ["a one", "b one", "b two"]


def test_a_json_file_of_any_name_is_read_by_the_function(tmp_path: Path) -> None:
    file = tmp_path / "a.data"
    file.write_bytes(b'{"text": "first"}\nbroken{\n\n{"text": "\xff"}\n[4]\n{"text": "fifth"}')
    rows = read(f"read_json( '{file}' )")
    assert get_texts(rows) == ["first", "fifth"]
    assert [(row.reason, row.line) for row in rows if isinstance(row, RejectedDocument)] == [
        (Reason.BROKEN_JSON, 2),
        (Reason.INVALID_UTF8, 4),
        (Reason.NOT_AN_OBJECT, 5),
    ]


def test_a_table_function_on_nothing_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file matches .*none"):
        read(f"read_parquet('{tmp_path}/none*.parquet')")


@pytest.mark.parametrize(
    "spec",
    [
        "read_parquet('a.parquet', union_by_name=true)",
        "read_parquet('a'); drop table x; --')",
        "read_csv('a.csv')",
        "select 1 from read_parquet('a.parquet')",
        "read_parquet(getenv('HOME'))",
    ],
)
def test_no_other_sql_is_a_source(spec: str) -> None:
    with pytest.raises(SourceError, match=r"there is no file or folder .*; accepted: wikipedia"):
        read(spec)


def test_a_url_of_unknown_type_is_no_source_and_its_secrets_stay_secret() -> None:
    with pytest.raises(SourceError, match=r"must end in one of \.jsonl") as caught:
        read("https://me:secret@ex.org/page.php?token=secret")
    assert "https://ex.org/page.php;" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_without_httpfs_a_remote_source_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match=r"duckdb-extension-httpfs==1\.5\.5") as caught:
        read("s3://bucket/data/*.parquet")
    assert "AWS_ACCESS_KEY_ID" in str(caught.value)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a web server for the test's folder."""
    handler = partial(Quiet, directory=str(tmp_path))
    with serve_http(handler) as address:
        yield address.removeprefix("http://")


def test_remote_files_are_read_and_no_secret_leaves_the_address(tmp_path: Path, site: str) -> None:
    write_parquet(tmp_path / "a.parquet", "select 'first' as text")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "first"}\nbroken\n')
    for name, count in (("a.parquet", 1), ("b.jsonl", 2)):
        rows = read(f"http://{site}/{name}?signature=secret")
        assert get_texts(rows) == ["first"]
        assert [row.source for row in rows] == [f"http://{site}/{name}"] * count
        assert "secret" not in repr(rows)


@pytest.mark.parametrize("name", ["none.parquet", "none.jsonl"])
def test_a_remote_file_that_is_not_there_is_no_source(site: str, name: str) -> None:
    with pytest.raises(SourceError, match=f"cannot read http://{site}/{name}: ") as caught:
        read(f"http://me:secret@{site}/{name}?signature=secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
