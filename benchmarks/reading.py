"""Documents per CPU-second that are read of web archives and JSON lines, ours and datatrove's.

The same pages are read of a web archive, as HTML in JSON lines, and as plain text in JSON lines. Of
HTML, both extract the main text.

    uv run python benchmarks/reading.py                      # 2,000 pages, three times
    uv run python benchmarks/reading.py --file crawl.warc.gz # a file of yours

The pages are Wikipedia lead sections in the markup of a web site: navigation, scripts, a side bar
and a footer, 25 kB each. A process reads one file, and its CPU time counts from the first import.
"""

import argparse
import gzip
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from contenders import HERE, Contender, find_interpreter

from persona_pipeline.artifacts.packages import wikipedia_leads


class Reader(Contender):
    """A reader of files."""

    @property
    def path(self) -> Path:
        """The adapter."""
        return HERE / "reading_peers" / self.file


READERS = (Reader("ours", "ours.py", is_ours=True), Reader("datatrove", "hf_datatrove.py"))
LINK = '<li class="menu-item"><a href="/topics/{0}" title="Topic {0}">Topic number {0}</a></li>\n'
SCRIPT = "<script>var settings{0} = {{'track': true, 'items': [{1}]}};</script>\n"
PAGE = """<!doctype html><html lang="en"><head><title>{title}</title>{scripts}</head><body>
<header><nav><ul>{links}</ul></nav></header>
<main><article><h1>{title}</h1>{paragraphs}</article></main>
<aside><h2>Read on</h2><ul>{links}</ul></aside><footer><p>All rights reserved.</p>{scripts}</footer>
</body></html>"""


def texts(count: int) -> Iterator[tuple[str, str]]:
    """Yield titles and texts of distinct pages: sentences of the leads, in other company."""
    leads = json.loads(wikipedia_leads("en").read_text())
    flat = [(lead["title"], lead["extract"]) for lead in leads.values()]
    for number in range(count):
        title, _ = flat[number % len(flat)]
        parts = [flat[(number * 7 + step) % len(flat)][1] for step in range(4)]
        yield f"{title} {number}", "\n".join([f"Page {number}.", *parts])


def write_files(folder: Path, count: int) -> list[Path]:
    """Write the same texts as a web archive, as JSON lines of pages, and of plain texts."""
    links = "".join(map(LINK.format, range(40)))
    scripts = "".join(SCRIPT.format(n, ", ".join(map(str, range(300)))) for n in range(3))
    archive, pages, lines = (
        folder / name for name in ("pages.warc.gz", "pages-html.jsonl", "pages.jsonl")
    )
    with archive.open("wb") as packed, pages.open("w") as html, lines.open("w") as plain:
        for number, (title, text) in enumerate(texts(count)):
            paragraphs = "".join(f"<p>{line}</p>\n" for line in text.split("\n"))
            page = PAGE.format(title=title, links=links, scripts=scripts, paragraphs=paragraphs)
            packed.write(gzip.compress(record(page, number)))
            row = {"id": str(number), "url": f"https://ex.org/{number}"}
            html.write(json.dumps(row | {"html": page}) + "\n")
            plain.write(json.dumps(row | {"text": text}) + "\n")
    return [archive, pages, lines]


def record(page: str, number: int) -> bytes:
    """Return the WARC record of a page."""
    body = page.encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}"
    )
    block = f"{head}\r\n\r\n".encode() + body
    lines = [
        "WARC/1.0",
        "WARC-Type: response",
        f"WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-{number:012d}>",
        f"WARC-Target-URI: https://ex.org/{number}",
        "WARC-Date: 2026-01-01T00:00:00Z",
        "Content-Type: application/http; msgtype=response",
        f"Content-Length: {len(block)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + block + b"\r\n\r\n"


def measure(reader: Reader, path: Path) -> dict[str, float]:
    """Read the file in a process of its own."""
    command = [str(find_interpreter(reader)), str(reader.path), str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(path: Path, repeats: int) -> None:
    """Read the file in turn, and print the best of each reader and the ratio."""
    best: dict[str, float] = {}
    for _ in range(repeats):
        for reader in READERS:
            report = measure(reader, path)
            rate = report["documents"] / report["cpu"]
            best[reader.name] = max(rate, best.get(reader.name, 0))
            print(
                f"{path.name:16} {reader.name:10} {report['documents']:7,.0f} documents"
                f" {report['characters'] / 1e6:7.1f} M characters {report['cpu']:7.2f} CPU-s"
                f" {rate:8,.0f} documents per CPU-s"
            )
    print(f"{path.name:16} ours / datatrove {best['ours'] / best['datatrove']:.2f} (best of each)")


def main() -> None:
    """Write the files, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--file", type=Path, help="a .warc.gz, -html.jsonl or .jsonl file in their place"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = [chosen.file] if chosen.file else write_files(Path(name), chosen.pages)
        for path in files:
            compare(path.absolute(), chosen.repeats)


if __name__ == "__main__":
    main()
