"""Real files and real servers through the command that users type."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from persona_pipeline.llm.clients.fake import instance_of_schema
from persona_pipeline.llm.requests import ChatRequest, Sampling
from tests.support.commands import run_command
from tests.support.picky_server import Body, completion, refusal, serve_picky
from tests.support.served_model import ServedModel
from tests.support.small_job import make_small_job
from tests.support.web_archives import make_page, make_record

SENTENCE = "The keeper of lamp {} trims its wick at dusk and writes down every ship that passes. "


def text(number: int) -> str:
    return SENTENCE.format(number) * 4


def page(number: int) -> bytes:
    return make_page().replace("<main>", f"<main><p>{text(number)}</p>").encode()


def response(number: int, *headers: str) -> bytes:
    """Return a record with a page, under these HTTP headers."""
    head = ["HTTP/1.1 200 OK", "Content-Type: text/html", *headers, "", ""]
    return make_record("\r\n".join(head).encode() + page(number))


def write_real_files(folder: Path) -> int:
    """Write one file of each kind that was read wrongly before; return how many texts are good."""
    folder.mkdir()
    bad_url = [b"https://ex.org/%d" % number for number in range(3)]
    bad_url[1] = b"\xff"
    columns = {
        "text": pa.array([text(number) for number in range(3)]),
        "url": pa.array(bad_url).view(pa.string()),
    }
    pq.write_table(pa.table(columns), folder / "a.parquet")
    lies = [
        response(10, "Transfer-Encoding: chunked"),
        response(11, "Content-Encoding: br"),
        response(12, "Content-Encoding: none"),
        make_record(page(13), "Content-Type: text/html", kind="resource"),
        make_record(b"software: crawler\r\n", kind="warcinfo"),
        make_record(b"GET / HTTP/1.1\r\n\r\n", kind="request"),
    ]
    (folder / "b.warc").write_bytes(b"".join(lies))
    members = [gzip.compress(response(number)) for number in (20, 21, 22)]
    members[1] = members[1][:60] + b"\x00" * 8 + members[1][68:]
    (folder / "c.warc.gz").write_bytes(b"".join(members))
    (folder / "d.csv").write_text(f'id;text\n1;"{text(30)}"\n')
    packed: dict[str, Any] = {"xz": lzma.compress, "bz2": bz2.compress, "gz": gzip.compress}
    for number, (ending, compress) in enumerate(packed.items(), start=40):
        (folder / f"e.txt.{ending}").write_bytes(compress(text(number).encode()))
    lines = json.dumps({"raw_content": text(50), "metadata": {"url": "https://ex.org/50"}})
    (folder / "f.jsonl.zst").write_bytes(zstandard.compress(lines.encode()))
    (folder / "g.json").write_text(json.dumps({"text": text(60)}, indent=1))
    (folder / "h.jsonl").write_bytes(json.dumps([{"text": text(70)}]).encode("utf-16"))
    chat = [{"role": "user", "content": text(80)}, {"role": "assistant", "content": "Well."}]
    (folder / "i.jsonl").write_text(json.dumps({"messages": chat}))
    wacz = io.BytesIO()
    with zipfile.ZipFile(wacz, "w") as package:
        package.writestr("archive/data.warc", response(90))
    (folder / "j.wacz").write_bytes(wacz.getvalue())
    hub = folder / "k"
    hub.mkdir()
    (hub / "README.md").write_text("---\nlicense: mit\n---\n" + text(0))
    (hub / "train.jsonl").write_text(json.dumps({"text": text(99)}))
    return 1 + 3 + 4 + 2 + 1 + 3 + 1 + 1 + 1 + 1 + 1


def test_a_run_reads_real_files_and_says_what_held_no_page(tmp_path: Path) -> None:
    good = write_real_files(tmp_path / "files")
    done = run_command(
        "run", "--source", str(tmp_path / "files"), "--documents", "all", "--model", "fake/demo",
        data_dir=tmp_path / "data", domains="math", cosine_threshold="none",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without a page (corpus.skipped): request 1, warcinfo 1" in done.stdout
    [rejected] = rows(tmp_path, "select file, reason from corpus.rejected")
    assert rejected == ("c.warc.gz", "broken_file")
    kept = rows(tmp_path, "select file, count(*) from corpus.documents group by file order by file")
    assert sum(number for _, number in kept) == good, kept


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query on what the run in this folder published."""
    with duckdb.connect(folder / "data" / "published.duckdb", read_only=True) as connection:
        return connection.sql(sql).fetchall()


class Moody:
    """A model that refuses the usual form once, and then answers in a new odd way each time."""

    def __init__(self) -> None:
        self._turns = count()
        self.paid = Counter[str]()

    def __call__(self, body: Body) -> tuple[int, Body]:
        if body.get("response_format", {}).get("type") == "json_schema":
            return 422, refusal("response_format: json_schema is not supported")
        for name in ("temperature", "top_p"):
            if name in body:
                return 400, refusal(f"Unsupported parameter: '{name}'", param=name)
        self.paid[json.dumps(body["messages"])] += 1
        schema = json.loads(body["messages"][0]["content"].rpartition("nothing else:\n")[2])
        request = ChatRequest("served", tuple(body["messages"]), schema, Sampling())
        good = instance_of_schema(request)
        ways = [
            completion(f"<think>Is it {{x}}?</think>{good}"),
            completion(f"Here it is: {good} I hope so."),
            completion(None, reasoning_content=good),
            completion(good, "length"),
            completion(good, "COMPLETED"),
            completion("\x1b[31m ".join(good.rsplit(" ", 1))),
            completion(f"```json\n{good}\n```"),
            completion(good, reasoning_content="They would."),
        ]
        return 200, ways[next(self._turns) % len(ways)]


def test_a_run_keeps_every_good_answer_of_an_odd_server_and_pays_for_each_once(
    tmp_path: Path,
) -> None:
    job, moody = make_small_job(tmp_path), Moody()
    with serve_picky(moody) as server:
        settings = job.settings(ServedModel(url=server.url), tmp_path / "data")
        settings |= {"cosine_threshold": "none", "embedding_model": "fake/embedder"}
        done = run_command("run", **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        again = run_command("run", **settings)
    assert again.returncode == 0, again.stdout + again.stderr
    assert set(moody.paid.values()) == {1}
    assert "\x1b[31m" not in done.stdout
    [(status, calls)] = rows(tmp_path, "select status, count(*) from llm.calls group by status")
    assert (status, calls) == ("ok", moody.paid.total())
    [(thoughts,)] = rows(tmp_path, "select count(reasoning) from llm.calls")
    assert thoughts >= 4
    assert rows(tmp_path, "from marts.funnel where rows_failed > 0 or not is_balanced") == []
    assert rows(tmp_path, r"from personas.hub where persona like '%' || chr(27) || '%'") == []
