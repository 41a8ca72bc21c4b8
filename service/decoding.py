"""Bodies that come compressed, unpacked up to a limit: a small one may hide a huge one."""

from __future__ import annotations

import zlib

from monitoring.core.errors import InvalidInput, TooLarge

FIELD = "Content-Encoding"
PLAIN = frozenset({"", "identity"})
GZIP = frozenset({"gzip", "x-gzip"})
GZIP_WINDOW = 16 + zlib.MAX_WBITS


def decoded(body: bytes, encoding: str, *, limit: int) -> bytes:
    """The body as it was before `encoding`, a Content-Encoding.

    Raises TooLarge where it has more than `limit` bytes, InvalidInput where it cannot be unpacked.
    """
    encoding = encoding.strip().lower()
    if encoding in PLAIN:
        return body
    if encoding not in GZIP:
        raise InvalidInput(f"{FIELD} {encoding!r} is not known here: send gzip, or the body as it is", field=FIELD)
    unpacking = zlib.decompressobj(GZIP_WINDOW)
    try:
        unpacked = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(f"the body is not the gzip that {FIELD} announces: {error}", field=FIELD) from error
    if len(unpacked) > limit:
        raise TooLarge(f"the body, unpacked, is larger than the limit of {limit} bytes: send fewer texts at once")
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidInput("the body is not one whole gzip member: it ends too soon or goes on behind it", field=FIELD)
    return unpacked
