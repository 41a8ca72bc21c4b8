"""Which rows of the log are evidence: one client, or one text sent over and over, weighs a bounded amount a minute.

A bot or a retry loop is no change of the traffic's topics. Rows beyond the bound stay in the log and are marked as not
counted; detectors and windows leave them out. The rule looks at who sent what and when, never at what the model
answered, so that what counts is as exchangeable as the traffic itself. The state is bounded: clients and texts share
buckets, and where two share one, each may be bounded a little earlier, which is blind as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

BUCKETS = 1 << 16
KEPT_MINUTES = 3
MICROSECONDS_A_MINUTE = 60_000_000


@dataclass
class _Minute:
    """Rows of one version in one minute: all of them, and those that counted, by bucket."""

    rows: int = 0
    clients: Counter[int] = field(default_factory=Counter)
    texts: Counter[int] = field(default_factory=Counter)


class Admission:
    """Counts rows as they are shipped; `judge` says of each whether it counts.

    A row counts while its client, and its exact text, have had fewer than `floor` rows of the version in that minute
    or less than `share` of the version's rows so far in it. A restart in the middle of a minute begins its count anew;
    a commit that is tried again counts its rows twice, and so bounds a little earlier.
    """

    def __init__(self, floor: int = 30, share: float = 0.05) -> None:
        self._floor = floor
        self._share = share
        self._minutes: dict[tuple[str, int], _Minute] = {}

    def judge(self, rows: Iterable[Mapping[str, Any]]) -> list[bool]:
        """Whether each row (`version`, `at_us`, `unit`, `text` or None) counts, in the order in which they came."""
        counted = [self._counts(row) for row in rows]
        if self._minutes:
            newest = max(minute for _, minute in self._minutes)
            self._minutes = {key: kept for key, kept in self._minutes.items() if key[1] > newest - KEPT_MINUTES}
        return counted

    def _counts(self, row: Mapping[str, Any]) -> bool:
        minute = self._minutes.setdefault((row["version"], row["at_us"] // MICROSECONDS_A_MINUTE), _Minute())
        minute.rows += 1
        most = max(self._floor, self._share * minute.rows)
        client, text = _bucket(row["unit"]), _bucket(row["text"] or "")
        counts = minute.clients[client] < most and (row["text"] is None or minute.texts[text] < most)
        if counts:
            minute.clients[client] += 1
            minute.texts[text] += 1
        return counts


def _bucket(name: str) -> int:
    return crc32(name.encode()) % BUCKETS
