"""Which rows of the log are evidence: one client weighs a bounded amount a minute, one exact text an hour.

A bot or a retry loop is no change of the traffic's topics. Rows beyond the bound stay in the log and are marked as not
counted; detectors and windows leave them out. The rule looks at who sent what and when, never at what the model
answered, so that what counts is as exchangeable as the traffic itself. A text is bounded more tightly: a client's
messages differ, while the same rank some dozen times in a row is evidence of anything.

The state is bounded: clients and texts share buckets, and where two share one, each may be bounded a little earlier,
which is blind as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from zlib import crc32

BUCKETS = 1 << 16
KEPT = 3
MINUTE, HOUR = 60_000_000, 3_600_000_000  # microseconds
Sender = Literal["unit", "text"]
SPANS: Mapping[Sender, int] = {"unit": MINUTE, "text": HOUR}
LEAST_COUNTED: Mapping[Sender, int] = {"unit": 30, "text": 10}


@dataclass
class _Span:
    """Rows of one version that counted in a minute or an hour: all of them, and by bucket."""

    total: int = 0
    counted: Counter[int] = field(default_factory=Counter)


class Admission:
    """Counts rows as they are shipped; `judge` says of each whether it counts.

    A row counts while fewer than `least` rows of its client have counted in that minute, or less than `share` of the
    version's rows that have; and of its exact text likewise in that hour. A restart begins the count anew; a commit
    that is tried again counts its rows twice, and so bounds a little earlier.
    """

    def __init__(self, least: Mapping[Sender, int] = LEAST_COUNTED, share: float = 0.05) -> None:
        self._least = least
        self._share = share
        self._spans: dict[tuple[Sender, str, int], _Span] = {}

    def judge(self, rows: Iterable[Mapping[str, Any]]) -> list[bool]:
        """Whether each row (`version`, `at_us`, `unit`, `text` or None) counts, in the order in which they came."""
        counted = [self._counts(row) for row in rows]
        newest = {what: max((span for kind, _, span in self._spans if kind == what), default=0) for what in SPANS}
        self._spans = {key: kept for key, kept in self._spans.items() if key[2] > newest[key[0]] - KEPT}
        return counted

    def _counts(self, row: Mapping[str, Any]) -> bool:
        found = []
        for what, lasts in SPANS.items():
            if row[what] is not None:
                span = self._spans.setdefault((what, row["version"], row["at_us"] // lasts), _Span())
                found.append((span, _bucket(row[what]), max(self._least[what], self._share * span.total)))
        counts = all(span.counted[bucket] < most for span, bucket, most in found)
        for span, bucket, _ in found:
            span.total += counts
            span.counted[bucket] += counts
        return counts


def _bucket(name: str) -> int:
    return crc32(name.encode()) % BUCKETS
