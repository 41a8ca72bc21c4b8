"""Which values of the requests' metadata moved: in share, and where confidence or similarity fell. Explains, no alarm.

The usual is what the reign's windows without drift had; bounded, whatever the metadata hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from monitoring.baseline import Baseline
from monitoring.signals import Traffic

MAX_KEYS = 20
MAX_VALUES = 50
MAX_KINDS = 20_000
MAX_MOVED = 10
LEAST_ROWS = 20
SURE = 0.001
WATCHED = ("confidence", "similarity")
Sums = NDArray[np.float64]
"""Of the rows of one value: their number, then sum and sum of squares of each of WATCHED."""


@dataclass(frozen=True)
class UsualValues:
    """`rows` seen, and the sums of up to 20 keys' up to 50 values; `crowded` keys have more values than that."""

    rows: int = 0
    sums: Mapping[str, Mapping[str, Sums]] = field(default_factory=dict)
    crowded: frozenset[str] = frozenset()

    def joined_by(self, window: Traffic) -> UsualValues:
        """With the window's rows."""
        sums = {key: dict(values) for key, values in self.sums.items()}
        crowded = set(self.crowded)
        for key, value, added in _values_of(window):
            if key not in sums and len(sums) >= MAX_KEYS:
                continue
            values = sums.setdefault(key, {})
            if value not in values and len(values) >= MAX_VALUES:
                crowded.add(key)
                continue
            values[value] = values[value] + added if value in values else added
        return UsualValues(self.rows + len(window), sums, frozenset(crowded))

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        sums = {key: {value: row.tolist() for value, row in values.items()} for key, values in self.sums.items()}
        return {"rows": self.rows, "sums": sums, "crowded": sorted(self.crowded)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> UsualValues:
        """From what `to_json` gave."""
        sums = {key: {value: np.array(row) for value, row in values.items()} for key, values in body["sums"].items()}
        return cls(int(body["rows"]), sums, frozenset(body["crowded"]))


def moved_values(usual: UsualValues, baseline: Baseline, window: Traffic) -> list[dict[str, Any]]:
    """The values that moved most surely, at most ten: [{slice, what, n, window, usual, usual_n, effect, p_value}].

    `what`: 'share' (of the rows; only once something is usual), 'confidence' or 'similarity' (means, only where they
    fell; what a value that is not known yet is compared with is the baseline). `effect`: window minus usual. Bonferroni
    over all that was compared, so that a window as usual gets an entry with a chance of 0.1 %.
    """
    entries = []
    for key, value, sums in _values_of(window):
        known = usual.sums.get(key, {}).get(value)
        if known is None and key in usual.crowded:
            continue
        before = np.zeros_like(sums) if known is None else known
        entries += list(_compare(f"{key}={value}", sums, before, usual, baseline, window))
    level = SURE / max(len(entries), 1)
    sure = [entry for entry in entries if entry["p_value"] <= level]
    return sorted(sure, key=lambda entry: (entry["p_value"], -abs(entry["effect"])))[:MAX_MOVED]


def _compare(
    name: str, sums: Sums, before: Sums, usual: UsualValues, baseline: Baseline, window: Traffic
) -> Iterator[dict[str, Any]]:
    n, usual_n = int(sums[0]), int(before[0])
    if usual.rows >= LEAST_ROWS and n + usual_n >= LEAST_ROWS:
        share, usual_share = n / len(window), usual_n / usual.rows
        pooled = (n + usual_n) / (len(window) + usual.rows)
        deviation = math.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / len(window) + 1 / usual.rows))
        chance = 2 * float(norm.sf(abs(share - usual_share) / deviation))
        yield _entry(name, "share", n, share, usual_share, usual_n, chance)
    if n < LEAST_ROWS:
        return
    for position, what in enumerate(WATCHED):
        mean, variance = _mean_and_variance(sums, position)
        if usual_n >= LEAST_ROWS:
            usual_mean, usual_variance = _mean_and_variance(before, position)
            of_usual = usual_n
        else:
            usual_mean, usual_variance = float(baseline.signals[what].mean()), float(baseline.signals[what].var())
            of_usual = baseline.n
        deviation = math.sqrt(max(variance / n + usual_variance / of_usual, 1e-24))
        if mean < usual_mean:
            chance = float(norm.sf((usual_mean - mean) / deviation))
            yield _entry(name, what, n, mean, usual_mean, of_usual, chance)


def _entry(name: str, what: str, n: int, now: float, usual: float, usual_n: int, chance: float) -> dict[str, Any]:
    return {
        "slice": name,
        "what": what,
        "n": n,
        "window": now,
        "usual": usual,
        "usual_n": usual_n,
        "effect": now - usual,
        "p_value": chance,
    }


def _mean_and_variance(sums: Sums, position: int) -> tuple[float, float]:
    n, total, squares = sums[0], sums[1 + 2 * position], sums[2 + 2 * position]
    mean = float(total / n)
    return mean, max(float(squares / n) - mean * mean, 0.0)


def _values_of(window: Traffic) -> Iterator[tuple[str, str, Sums]]:
    """The sums of each key's values, commonest first; of more than 20,000 kinds of metadata the commonest count."""
    if window.metadata is None:
        return
    codes, kinds = window.metadata.codes, window.metadata.kinds
    columns = [np.ones(len(codes))]
    for what in WATCHED:
        columns += [window.signals[what], np.square(window.signals[what])]
    by_kind = np.stack([np.bincount(codes, weights=column, minlength=len(kinds)) for column in columns], axis=1)
    found: dict[tuple[str, str], Sums] = {}
    for number in np.argsort(-by_kind[:, 0], kind="stable")[:MAX_KINDS].tolist():
        for item in kinds[number].items():
            found[item] = found[item] + by_kind[number] if item in found else by_kind[number]
    for (key, value), sums in sorted(found.items(), key=lambda entry: (-entry[1][0], entry[0])):
        yield key, value, sums
