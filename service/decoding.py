"""Bodies that come compressed, unpacked up to a limit: a small one may hide a huge one."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from monitoring.core.errors import InvalidInput, TooLarge

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

FIELD = "Content-Encoding"
PLAIN = frozenset({"", "identity"})


class Unpacking(Protocol):
    """What zlib and zstd have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _gzip() -> Unpacking:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


ENCODINGS: Mapping[str, Callable[[], Unpacking]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": zlib.decompressobj,  # in zlib's format, as RFC 9110 has it
    "zstd": ZstdDecompressor,
}


def decoded(body: bytes, encoding: str, *, limit: int) -> bytes:
    """The body as it was before `encoding`, a Content-Encoding.

    Raises TooLarge where it has more than `limit` bytes, InvalidInput where it cannot be unpacked.
    """
    encoding = encoding.strip().lower()
    if encoding in PLAIN:
        return body
    if encoding not in ENCODINGS:
        raise InvalidInput(
            f"{FIELD} {encoding!r} is not known here: send gzip, deflate or zstd, or the body as it is", field=FIELD
        )
    unpacking = ENCODINGS[encoding]()
    try:
        unpacked = unpacking.decompress(body, limit + 1)
    except (zlib.error, ZstdError) as error:
        raise InvalidInput(f"the body is not the {encoding} that {FIELD} announces: {error}", field=FIELD) from error
    if len(unpacked) > limit:
        raise TooLarge(f"the body, unpacked, is larger than the limit of {limit} bytes: send fewer texts at once")
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidInput(f"the body is not one whole {encoding}: it ends too soon or goes on behind it", field=FIELD)
    return unpacked
