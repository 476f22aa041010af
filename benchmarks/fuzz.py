"""Read damaged files of every format, and odd answers, for as long as you like: nothing may crash.

    uv run python benchmarks/fuzz.py --minutes 30
    uv run python benchmarks/fuzz.py --only a.pdf --from 812 --to 813    # one input again

Each input is a good file with up to six damages, drawn by its number: bytes changed, cut out,
doubled, moved, or taken from another format. A reader yields rows, or raises SourceError; it may
take SECONDS at most. What crashes or hangs does so in a process of its own. The number of what has
failed is printed, which is all that it takes to make that input again.
"""

import argparse
import bz2
import contextlib
import gzip
import io
import json
import lzma
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from persona_pipeline.corpus.dataset_cards import parse_card
from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.options import CorpusOptions, SampleBy
from persona_pipeline.corpus.sources import read_source
from persona_pipeline.errors import SourceError
from persona_pipeline.llm.answers import check_reply, parse_answer
from persona_pipeline.llm.clients.served import read_reply, refused, refused_in_answer
from persona_pipeline.llm.errors import CallError
from persona_pipeline.llm.prompts import object_schema
from persona_pipeline.llm.requests import ChatRequest, Sampling

SECONDS = 20
"""Longest time of one input; good ones take a millisecond."""
BATCH = 500
"""Inputs of one process."""
TEXT = "The keeper of the lamp writes down every ship, café and all. "
SCHEMA = object_schema({"persona": {"type": "string", "minLength": 3}})
REQUEST = ChatRequest("m", ({"role": "user", "content": "Who?"},), SCHEMA, Sampling())
CARD = "---\nlicense: [mit, cc0]\nconfigs:\n- data_files:\n  - {split: a, path: 'a/**'}\n---\n"
ANSWER: dict[str, Any] = {
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {
                "role": "assistant",
                "content": '<think>{"a": 1}</think>```json\n{"persona": "A \\u00e9 baker"}\n```',
                "reasoning_content": "They \\ would.",
            },
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 5},
}


def make_html(number: int) -> bytes:
    """Return a page with some main text."""
    return (
        f"<!doctype html><html lang=en><head><title>Lamp {number}</title></head><body><nav>"
        f"<a href=/>Home</a></nav><main><p>{TEXT * 4}{number}</p></main></body></html>"
    ).encode()


def make_archive(version: str = "WARC/1.0") -> bytes:
    """Return three records: information, a page in chunks, a plain page."""
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(make_html(1)), make_html(1))
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
    blocks = [
        ("warcinfo", b"software: x\r\n"),
        ("response", f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunked),
        ("response", f"{head}\r\n".encode() + make_html(2)),
        ("conversion", TEXT.encode() * 4),
    ]
    return b"".join(
        f"{version}\r\nWARC-Type: {kind}\r\nWARC-Target-URI: https://ex.org/{kind}\r\n"
        f"Content-Length: {len(block)}\r\n\r\n".encode()
        + block
        + b"\r\n\r\n"
        for kind, block in blocks
    )


def make_pdf() -> bytes:
    """Return one page without a table of places, which readers rebuild."""
    content = b"BT /F1 12 Tf 72 720 Td (The keeper of the lamp) Tj ET"
    return (
        b"%%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"
        b"2 0 obj\n<</Type/Pages/Count 1/Kids[3 0 R]>>\nendobj\n3 0 obj\n<</Type/Page/Parent 2 0 R"
        b"/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>\nendobj\n"
        b"4 0 obj\n<</Length %d>>\nstream\n%b\nendstream\nendobj\n5 0 obj\n<</Type/Font/Subtype"
        b"/Type1/BaseFont/Helvetica>>\nendobj\ntrailer\n<</Size 6/Root 1 0 R>>\n%%%%EOF\n"
        % (len(content), content)
    )


def make_seeds() -> dict[str, bytes]:
    """Return a good file of each format, by name."""
    rows = [
        {"text": f"{TEXT}{n}", "url": f"https://ex.org/{n}", "meta": {"n": n}} for n in range(8)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = pa.table({"text": [row["text"] for row in rows], "url": [row["url"] for row in rows]})
    parquet, stream, arrow, package = (io.BytesIO() for _ in range(4))
    pq.write_table(table, parquet, row_group_size=3)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as wacz:
        member = zipfile.ZipInfo("archive/data.warc.gz")  # of a fixed date
        wacz.writestr(member, gzip.compress(make_archive(), mtime=0))
    chat = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "Yes."}]
    arc = b"http://ex.org/ 1.2.3.4 20200101000000 text/html %d\n" % len(make_html(1))
    members = b"".join(gzip.compress(make_archive(), mtime=0) for _ in range(2))
    return {
        "a.jsonl": lines,
        "b.json": json.dumps(rows, indent=1).encode(),
        "c.jsonl": json.dumps({"messages": chat}).encode(),
        "d.jsonl.gz": gzip.compress(lines, mtime=0),
        "e.jsonl.zst": zstandard.compress(lines),
        "f.jsonl.xz": lzma.compress(lines),
        "g.jsonl.bz2": bz2.compress(lines),
        "h.jsonl": lines.decode().encode("utf-16"),
        "i.csv": b"text;url\n" + b"".join(b'"%b";x:1\n' % TEXT.encode() for _ in range(6)),
        "j.tsv": b"text\turl\n" + b"".join(b"%b\tx:1\n" % TEXT.encode() for _ in range(6)),
        "k.parquet": parquet.getvalue(),
        "l.arrow": stream.getvalue(),
        "m.feather": arrow.getvalue(),
        "n.txt": TEXT.encode() * 5,
        "o.md": b"# A lamp\n\n```\ncode\n```\n" + TEXT.encode() * 5,
        "p.html": make_html(7),
        "q.warc": make_archive(),
        "r.warc.gz": members,
        "s.warc.zst": zstandard.compress(make_archive()),
        "t.wet": make_archive("WARC/0.18"),
        "u.arc": b"filedesc://x 0.0.0.0 20200101000000 text/plain 4\n1 0\n\n" + arc + make_html(1),
        "v.wacz": package.getvalue(),
        "a.pdf": make_pdf(),
        "card": CARD.encode() + TEXT.encode(),
        "answer": ANSWER["choices"][0]["message"]["content"].encode(),
        "reply": json.dumps(ANSWER).encode(),
    }


ODD = [b"\x00", b"\xff", b"\n", b"\r\n\r\n", b'"', b"{", b"}", b"[", b"\\u", b"0", b"-1", b"9" * 30]
ODD += [b"WARC/1.0", b"Content-Length: ", b"\x1f\x8b\x08", b"(\xb5/\xfd", b"</think>", b"NaN"]


def damaged(seeds: dict[str, bytes], name: str, number: int) -> bytes:
    """Return the input of this number: the same in every run."""
    dice = random.Random(f"{name} {number}")  # noqa: S311 - not secret
    data = seeds[name]
    for _ in range(dice.randint(1, 6)):
        start = dice.randrange(len(data) + 1)
        end = min(len(data), start + int(dice.paretovariate(0.6)))
        other = dice.choice(list(seeds.values()))
        place = dice.randrange(len(other))
        new = dice.choice(
            [
                b"",
                data[start:end] * dice.randint(2, 4),
                bytes([dice.randrange(256)]),
                dice.choice(ODD),
                bytes(byte ^ 1 << dice.randrange(8) for byte in data[start:end]),
                other[place : place + dice.randint(1, 200)],
                data[end : end + 50],
            ]
        )
        data = data[:start] + new + data[end:]
    return data


def read_file(name: str, data: bytes) -> None:
    """Read a file of this content; every row must be one that can be stored."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        for sample_by in get_args(SampleBy) if name.endswith(".txt") else ("document",):
            options = CorpusOptions(min_chars=1, sample_by=sample_by)
            with contextlib.suppress(SourceError):
                for row in read_source(str(path), options):
                    check_row(row)


def check_row(row: Document | RejectedDocument) -> None:
    """Check that a row has an id, and is text that a database takes."""
    row.document_id.encode()
    shown = row.text if isinstance(row, Document) else row.detail
    if "\x00" in shown or not shown.strip():
        message = f"a row of {shown!r}"
        raise ValueError(message)
    shown.encode()


def read_card(data: bytes) -> None:
    """Read a README.md."""
    parse_card(data, "card")


def read_answer(data: bytes) -> None:
    """Read a model's text."""
    with contextlib.suppress(ValueError):
        json.dumps(parse_answer(data.decode("utf-8", "replace"), SCHEMA)).encode()


def read_body(data: bytes) -> None:
    """Read a server's body, as an answer and as a refusal."""
    text = data.decode("utf-8", "replace")
    refused(400, {}, text, "a-long-key")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return
    refused_in_answer(body, "a-long-key")
    with contextlib.suppress(CallError):
        check_reply(REQUEST, read_reply(body))


def target_of(name: str) -> Callable[[bytes], None]:
    """Return what reads such an input."""
    others: dict[str, Callable[[bytes], None]] = {
        "card": read_card,
        "answer": read_answer,
        "reply": read_body,
    }
    return others.get(name) or (lambda data: read_file(name, data))


def run_batch(name: str, first: int, last: int) -> None:
    """Read these inputs; print the number of each before it, and what went wrong."""
    seeds, target = make_seeds(), target_of(name)
    signal.signal(signal.SIGALRM, too_slow)
    for number in range(first, last):
        print(f"at {number}", flush=True)
        signal.alarm(SECONDS)
        try:
            target(damaged(seeds, name, number))
        except (Exception, TooSlow):  # noqa: BLE001 - each is what we look for
            print(f"failed {number}\n{traceback.format_exc(limit=-6)}", flush=True)
        finally:
            signal.alarm(0)


class TooSlow(BaseException):
    """End what takes too long; no reader takes it for a damaged file."""


def too_slow(_number: int, _frame: FrameType | None) -> None:
    """Raise TooSlow."""
    raise TooSlow


def failures(name: str, first: int, last: int) -> Iterator[str]:
    """Run a batch in processes of its own; yield what went wrong in it.

    After a crash or a hang, another process goes on behind that input.
    """
    while first < last:
        command = [sys.executable, __file__, "--batch", "--only", name]
        command += ["--from", str(first), "--to", str(last)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            try:
                said, _ = process.communicate(timeout=SECONDS * (last - first))
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
        for failure in said.split("failed ")[1:]:
            yield failure.partition("\nat ")[0].rstrip()
        if not process.returncode:
            return
        first = int(said.rpartition("at ")[2].split("\n")[0])
        yield f"{first}\nended the process with status {process.returncode}"
        first += 1


def main() -> None:
    """Go round the formats until the time is over; print how many inputs failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1)
    names = list(make_seeds())
    parser.add_argument("--only", choices=names, help="one format, by the name of its file")
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--to", dest="last", type=int)
    parser.add_argument("--batch", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    names = [chosen.only] if chosen.only else names
    if chosen.batch:
        run_batch(chosen.only, chosen.first, chosen.last)
        return
    end, first = time.monotonic() + chosen.minutes * 60, chosen.first
    tried, failed = Counter[str](), Counter[str]()
    while (time.monotonic() < end and chosen.last is None) or first < (chosen.last or 0):
        last = min(first + BATCH, chosen.last or first + BATCH)
        for name in names:
            tried[name] += last - first
            for failure in failures(name, first, last):
                failed[name] += 1
                print(f"{name} {failure}", flush=True)
        first = last
    for name in names:
        print(f"{name:12} {tried[name]:9,} inputs, {failed[name]} failed")
    print(f"{tried.total():,} inputs, {failed.total()} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
