"""Compressed bodies: read, refused, and never unpacked beyond the limit."""

from __future__ import annotations

import gzip

import pytest

from monitoring.core.errors import InvalidInput, TooLarge
from service.decoding import decoded

BODY = b'{"inputs": ["my parcel is late"]}' * 30


@pytest.mark.parametrize("encoding", ["gzip", " GZip ", "x-gzip"])
def test_gzip_is_unpacked(encoding: str) -> None:
    assert decoded(gzip.compress(BODY), encoding, limit=len(BODY)) == BODY


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_a_body_as_it_is_stays_as_it_is(encoding: str) -> None:
    assert decoded(BODY, encoding, limit=1) == BODY


def test_a_bomb_is_refused_at_the_limit() -> None:
    with pytest.raises(TooLarge, match="limit of 1000 bytes"):
        decoded(gzip.compress(b" " * 100_000_000), "gzip", limit=1000)
    with pytest.raises(TooLarge):
        decoded(gzip.compress(BODY), "gzip", limit=len(BODY) - 1)


@pytest.mark.parametrize(
    "body",
    [BODY, b"", gzip.compress(BODY)[:-1], gzip.compress(BODY) + b"more", b"\x1f\x8b" + b"\0" * 20],
    ids=["plain", "empty", "cut", "more", "damaged"],  # gzip writes the time: no two workers would name the same test
)
def test_what_is_no_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="gzip"):
        decoded(body, "gzip", limit=1_000_000)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_another_encoding_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(InvalidInput, match="is not known here: send gzip"):
        decoded(BODY, encoding, limit=1_000_000)
