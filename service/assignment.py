"""Who meets the candidate: sticky, and for good. Pure."""

from __future__ import annotations

import hashlib

_SPAN = 2.0**64


def position(unit: str, salt: str) -> float:
    """Where a unit stands in [0, 1): uniform over units, the same in every replica, independent between salts."""
    digest = hashlib.blake2b(unit.encode(), digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest, "big") / _SPAN


def meets_candidate(unit: str, salt: str, share: float) -> bool:
    """Whether the candidate answers this unit while its share of the traffic is `share`.

    A unit that met the candidate at one share meets it at every larger one; another rollout, having another salt,
    draws anew. `unit` is the hashed key as it is logged, so that every assignment can be checked afterwards.
    """
    return position(unit, salt) < share
