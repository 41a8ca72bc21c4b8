"""Identifiers: time-ordered and unguessable enough to be handed to callers."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from datetime import UTC, datetime


def new_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, 74 random bits; sorts by creation time."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def id_time(identifier: str) -> datetime | None:
    """When a UUIDv7 was made (UTC), or None if `identifier` is not one in its canonical form."""
    try:
        value = uuid.UUID(identifier)
        if value.version != 7 or str(value) != identifier:
            return None
        return datetime.fromtimestamp((value.int >> 80) / 1000, tz=UTC)
    except ValueError:  # no UUID, or one of the year 10000 and later
        return None


def unit_hash(key: str) -> str:
    """The caller's key as it is logged: 16 hex digits, so that no raw personal key is stored."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
