"""Test HTTP responses whose headers contradict their body."""

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from persona_pipeline.corpus.byte_streams import BrokenStreamError
from persona_pipeline.corpus.http_responses import parse_media_type, parse_response
from persona_pipeline.corpus.rows import MAX_RAW_BYTES

PAGE = b"<html><body><p>" + b"The mill by the river. " * 40 + b"</p></body></html>"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def chunk(data: bytes, *, extension: bytes = b"", end: bytes = b"\r\n") -> bytes:
    pieces = [data[start : start + 100] for start in range(0, len(data), 100)]
    chunks = [b"%X%s%s%s%s" % (len(piece), extension, end, piece, end) for piece in pieces]
    return b"".join(chunks) + b"0" + end + end


def read_body(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", *headers, "", ""]).encode()
    response = parse_response(head + body)
    assert response is not None
    return response.read_body()


def compress_brotli(data: bytes) -> bytes:
    return bytes(brotli.compress(data, quality=1))


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": compress_brotli,
    "zstd": zstandard.compress,
}
ENCODED = {coding: pack(PAGE) for coding, pack in PACK.items()}


@pytest.mark.parametrize("coding", ENCODED)
def test_a_body_is_decoded_where_it_decodes_and_else_taken_as_it_is(coding: str) -> None:
    header = f"content-encoding: {coding.upper()}"
    assert read_body(ENCODED[coding], header) == PAGE
    assert read_body(PAGE, header) == PAGE
    assert read_body(b"", header) == b""


@pytest.mark.parametrize("coding", ["none", "UTF-8", "identity", "", "binary, utf-8"])
def test_an_unknown_encoding_changes_nothing(coding: str) -> None:
    assert read_body(PAGE, f"Content-Encoding: {coding}") == PAGE
    assert read_body(gzip.compress(PAGE), f"Content-Encoding: {coding}, gzip") == PAGE


def test_deflate_may_lack_the_header_of_zlib() -> None:
    assert read_body(raw_deflate(PAGE), "Content-Encoding: deflate") == PAGE


def test_encodings_are_undone_in_the_reverse_order() -> None:
    body = gzip.compress(brotli.compress(PAGE))
    assert read_body(body, "Content-Encoding: br, gzip") == PAGE
    assert read_body(body, "Content-Encoding: br", "Content-Encoding: gzip") == PAGE
    assert read_body(chunk(gzip.compress(PAGE)), "Transfer-Encoding: gzip, chunked") == PAGE


def test_a_gzip_body_is_known_without_a_header() -> None:
    assert read_body(gzip.compress(PAGE)) == PAGE


@pytest.mark.parametrize(
    "body",
    [
        chunk(PAGE),
        chunk(PAGE, extension=b";name=value"),
        chunk(PAGE, extension=b"  "),
        chunk(PAGE, end=b"\n"),
        chunk(PAGE)[:-2] + b"Expires: never\r\n\r\n",
        chunk(PAGE).removesuffix(b"0\r\n\r\n"),
        PAGE,
    ],
    ids=["plain", "extensions", "spaces", "bare-lf", "trailers", "no-end", "not-chunked"],
)
def test_a_chunked_body_is_joined_and_a_plain_one_stays(body: bytes) -> None:
    assert read_body(body, "Transfer-Encoding: chunked") == PAGE


def test_a_body_that_only_begins_like_the_last_chunk_stays() -> None:
    body = b"0\r\n" + b"a:b:c:d\r\n" * 40 + b"The end"  # tried in all ways, it would take for ever
    assert read_body(body, "Transfer-Encoding: chunked") == body


def test_chunks_that_are_cut_off_are_joined_as_far_as_they_go() -> None:
    assert read_body(chunk(PAGE)[:250], "Transfer-Encoding: chunked") == PAGE[:234]


def test_a_response_that_was_cut_off_is_decoded_as_far_as_it_goes() -> None:
    noise = bytes(range(256)) * 4
    for packed, coding in ((gzip.compress(noise)[:-9], "gzip"), (zlib.compress(noise), "deflate")):
        assert noise.startswith(read_body(packed, f"Content-Encoding: {coding}")[:200])


@pytest.mark.parametrize("coding", ENCODED)
def test_a_body_that_is_neither_encoded_nor_text_is_refused(coding: str) -> None:
    with pytest.raises(BrokenStreamError, match=f"says {coding}, but the body is neither"):
        read_body(b"\x00\x01\xff\xff" * 100, f"Content-Encoding: {coding}")


@pytest.mark.parametrize("coding", ENCODED)
def test_a_bomb_is_decoded_only_until_it_is_known_as_too_large(coding: str) -> None:
    zeros = bytes(MAX_RAW_BYTES * 2)
    content = read_body(PACK[coding](zeros), f"Content-Encoding: {coding}")
    assert MAX_RAW_BYTES < len(content) < MAX_RAW_BYTES * 3 // 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["text/html"], ("text/html", None)),
        (["Text/HTML;Charset='latin1'"], ("text/html", "'latin1'")),
        (['text/html; charset="utf-8"; x=y'], ("text/html", "utf-8")),
        (["text/html, text/html; charset=utf-8"], ("text/html", "utf-8")),
        (["text/html;charset=utf-8", "text/html"], ("text/html", "utf-8")),
        (["image/png", "text/html"], ("text/html", None)),
        (["text/html", "nonsense", ""], ("text/html", None)),
        (["nonsense"], None),
        ([], None),
    ],
)
def test_the_last_type_and_the_last_charset_hold(
    values: list[str], expected: tuple[str, str | None] | None
) -> None:
    media_type = parse_media_type(values)
    assert (media_type and (media_type.name, media_type.charset)) == expected


@pytest.mark.parametrize(
    "line", ["HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/2 200", " HTTP/1.1  200 x"]
)
def test_a_status_line_is_read_in_any_version(line: str) -> None:
    response = parse_response(f"{line}\n\nbody".encode())
    assert response is not None
    assert (response.status, response.raw_body) == (200, b"body")


@pytest.mark.parametrize("block", [b"", b"<html>", b"HTTP/1.1 OK\r\n\r\n", b"GET / HTTP/1.1"])
def test_a_block_without_a_status_is_no_response(block: bytes) -> None:
    assert parse_response(block) is None
