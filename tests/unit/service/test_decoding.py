"""Compressed bodies: read, refused, and never unpacked beyond the limit."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable

import pytest

from monitoring.core.errors import InvalidInput, TooLarge
from service.decoding import ENCODINGS, decoded

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BODY = b'{"inputs": ["my parcel is late"]}' * 30
PACKING: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_packed_is_unpacked(encoding: str) -> None:
    assert decoded(PACKING[encoding](BODY), f" {encoding.upper()} ", limit=len(BODY)) == BODY


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_a_body_as_it_is_stays_as_it_is(encoding: str) -> None:
    assert decoded(BODY, encoding, limit=1) == BODY


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_refused_at_the_limit(encoding: str) -> None:
    with pytest.raises(TooLarge, match="limit of 1000 bytes"):
        decoded(PACKING[encoding](b" " * 100_000_000), encoding, limit=1000)
    with pytest.raises(TooLarge):
        decoded(PACKING[encoding](BODY), encoding, limit=len(BODY) - 1)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_packed_otherwise_is_refused(encoding: str) -> None:
    packed = PACKING[encoding](BODY)
    for body in (BODY, b"", packed[:-1], packed + b"more", packed[:2] + b"\0" * 20):
        with pytest.raises(InvalidInput, match=encoding):
            decoded(body, encoding, limit=1_000_000)


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, gzip"])
def test_another_encoding_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(InvalidInput, match="is not known here: send gzip, deflate or zstd"):
        decoded(BODY, encoding, limit=1_000_000)
