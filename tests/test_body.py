"""The body of an answer: what is decompressed, what is refused, and that it never takes more memory than stated."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_flokit.body import BODY_LIMIT, PIECE, Body

GZIP = {"content-encoding": "gzip"}


def read(content: bytes, headers: dict[str, str], size: int = PIECE) -> Body:
    """Read a body in pieces, as long as there is any use in it."""
    body = Body(200, headers)
    for begin in range(0, len(content), size):
        if not body.take(content[begin : begin + size]):
            break
    return body


@given(st.binary(max_size=2000), st.integers(min_value=1, max_value=500))
def test_pieces_make_a_whole(content: bytes, size: int) -> None:
    """In whatever pieces it comes, compressed or not, the body is the one that was sent."""
    for encoding in ("gzip", " X-GZIP "):
        answer = read(gzip.compress(content), {"content-encoding": encoding}, size).answer()
        assert (answer.body, answer.problem) == (content, "")
    for headers in ({}, {"content-encoding": "identity"}):
        answer = read(content, headers, size).answer()
        assert (answer.body, answer.problem) == (content, "")


@pytest.mark.parametrize("headers", [{}, GZIP])
def test_limit(headers: dict[str, str]) -> None:
    """A body of exactly the limit is taken, one byte more is refused."""
    for size, problem in ((BODY_LIMIT, ""), (BODY_LIMIT + 1, "it is larger than 16 MiB")):
        content = bytes(size)
        answer = read(gzip.compress(content) if headers else content, headers).answer()
        assert (len(answer.body), answer.problem) == (0 if problem else size, problem)


def test_a_bomb_is_not_inflated() -> None:
    """One piece that would inflate to 512 MiB takes no more memory than the limit does."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(pack.compress(bytes(1 << 20)) for _ in range(512)) + pack.flush()
    body = Body(200, GZIP)
    tracemalloc.start()
    assert not body.take(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * BODY_LIMIT
    assert body.answer().problem == "it is larger than 16 MiB"


def test_compressed_bytes_count_too() -> None:
    """A gzip body that goes on for ever and inflates to nothing is refused as well."""
    nothing = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = nothing.compress(b"") + nothing.flush(zlib.Z_SYNC_FLUSH)
    body = read(head + b"\x00\x00\x00\xff\xff" * (BODY_LIMIT // 5 + 1), GZIP)
    assert body.answer().problem == "it is larger than 16 MiB"


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip,identity", "zstd", "\x1b[31m", "x" * 5000])
def test_encodings_that_were_not_asked_for(encoding: str) -> None:
    """Any other encoding is refused at the first look, in words that a log can hold."""
    body = Body(200, {"content-encoding": encoding})
    assert not body.take(b"{}")
    answer = body.answer()
    assert answer.body == b""
    assert "was not asked for" in answer.problem
    assert answer.problem.isprintable()
    assert len(answer.problem) < 200


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{}", "its gzip data is damaged"),
        (gzip.compress(b"{}" * 100, mtime=0)[:-4], "its gzip data is cut off"),
        (gzip.compress(b"{}", mtime=0)[:-4] + b"0000", "its gzip data is damaged"),
        (gzip.compress(b"{}", mtime=0) + b"padding", ""),
        (b"", ""),
    ],
)
@pytest.mark.parametrize("size", [1, 7, PIECE])
def test_gzip_that_is_none(content: bytes, problem: str, size: int) -> None:
    """Damaged or cut off data is told as such; what follows its end is of no interest, and an empty body is empty."""
    assert read(content, GZIP, size).answer().problem == problem


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content-length": "5"}, True),
        ({"content-length": "4"}, False),
        ({"content-length": "3"}, False),
        ({"content-length": "soon"}, False),
        ({}, False),
        ({"content-length": "5", "transfer-encoding": "chunked"}, False),
    ],
)
def test_is_cut_off(headers: dict[str, str], *, expected: bool) -> None:
    """A body that is shorter than announced is cut off."""
    assert read(b"four", headers).is_cut_off is expected
