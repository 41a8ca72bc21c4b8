"""Which rows of the log are evidence: one client weighs a bounded amount a minute, and less where it repeats itself.

A bot or a retry loop is no change of the traffic's topics. Rows beyond the bound stay in the log and are marked as not
counted; detectors and windows leave them out. The rule looks at who sent what and when, never at what the model
answered. It must leave ordinary traffic whole, since the baseline is not thinned: what many clients write, such as
"thanks", counts however common it is, unless it makes up half of a minute. A client that sends one text over and over
is bounded most tightly, since the same rank some dozen times in a row is evidence of anything.

The state is bounded: clients and texts share buckets, and where two share one, each may be bounded a little earlier,
which is blind as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from zlib import crc32

from monitoring.core.settings import LogSettings

BUCKETS = 1 << 16
KEPT = 3
MINUTE, HOUR = 60_000_000, 3_600_000_000  # microseconds


@dataclass(frozen=True)
class Bound:
    """Rows that are alike in all of `fields` count up to `least` in each `span` (microseconds), or to this `share`."""

    fields: tuple[str, ...]
    span: int
    least: int
    share: float


def bounds(per_minute: int = 30, repeats_per_hour: int = 5, share: float = 0.05) -> tuple[Bound, ...]:
    """Of a client, of a client that repeats a text, and of a text that floods, whoever sends it."""
    return (
        Bound(("unit",), MINUTE, per_minute, share),
        Bound(("unit", "text"), HOUR, repeats_per_hour, share),
        Bound(("text",), MINUTE, per_minute, 0.5),
    )


@dataclass
class _Span:
    """Rows of one version that counted in a minute or an hour: all, by bucket, and `before` a bucket's first one."""

    total: int = 0
    counted: Counter[int] = field(default_factory=Counter)
    before: dict[int, int] = field(default_factory=dict)

    def since(self, bucket: int) -> int:
        """Rows that have counted since the bucket's first one."""
        return self.total - self.before.get(bucket, self.total)


class Admission:
    """Counts rows as they are shipped; `judge` says of each whether it counts.

    A row counts while none of its bounds is reached: fewer than `least` rows like it have counted in that span, or less
    than `share` of the version's rows that have since the first of them: a bot that comes at the end of a busy hour
    does not spend the share of the whole hour at once. A restart begins the count anew; a commit that is tried again
    counts its rows twice, and so bounds a little earlier.
    """

    def __init__(self, limits: Iterable[Bound] | None = None) -> None:
        self._bounds = bounds() if limits is None else tuple(limits)
        self._spans: dict[tuple[Bound, str, int], _Span] = {}

    @classmethod
    def of(cls, settings: LogSettings) -> Self:
        """With the bounds of the settings."""
        return cls(bounds(settings.counted_per_minute, settings.repeats_per_hour, settings.counted_share))

    def judge(self, rows: Iterable[Mapping[str, Any]]) -> list[bool]:
        """Whether each row (`version`, `at_us`, `unit`, `text` or None) counts, in the order in which they came."""
        counted = [self._counts(row) for row in rows]
        newest: Counter[Bound] = Counter()
        for bound, _, number in self._spans:
            newest[bound] = max(newest[bound], number)
        self._spans = {key: kept for key, kept in self._spans.items() if key[2] > newest[key[0]] - KEPT}
        return counted

    def _counts(self, row: Mapping[str, Any]) -> bool:
        found = []
        for bound in self._bounds:
            said = [row[name] for name in bound.fields]
            if None not in said:
                span = self._spans.setdefault((bound, row["version"], row["at_us"] // bound.span), _Span())
                bucket = _bucket("\0".join(said))
                found.append((span, bucket, max(bound.least, bound.share * span.since(bucket))))
        counts = all(span.counted[bucket] < most for span, bucket, most in found)
        for span, bucket, _ in found:
            if counts:
                span.before.setdefault(bucket, span.total)
            span.total += counts
            span.counted[bucket] += counts
        return counts


def _bucket(name: str) -> int:
    return crc32(name.encode()) % BUCKETS
