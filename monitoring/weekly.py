"""What is usual at these hours of the week: where traffic has a cycle, an hour of it is unlike the baseline.

A window that has moved away from the baseline is therefore compared with two more samples, as soon as two weeks lie
behind it. It has drifted where one of them says so, at half the level each:

- it is unlike the same hours of the last weeks, up to four: something new has come;
- the whole week before its end is unlike the baseline: change so slow that the last weeks have it, too.

What only comes and goes with the clock is found by neither. The null under which the level holds: rows of the same
hours are exchangeable from week to week, and those of a whole week are exchangeable with the baseline's; a client's
rows are worth fewer, on both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from monitoring.baseline import Baseline
from monitoring.core.signals import SIGNALS
from monitoring.core.types import SignalFinding, SliceFinding
from monitoring.signals import Traffic, joined, novelty
from monitoring.stats.two_sample import FeatureMoments

WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
LEAST_WEEKS, MOST_WEEKS = 2, 4
MOST_ROWS = 10_000  # of a week, and of its hours in each earlier one
Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Weekly:
    """The two samples: what the `same_hours` of earlier weeks have brought, and the whole last `week`."""

    same_hours: Traffic
    week: Traffic


def weekly_of(
    window: Traffic, since: datetime, read_span: Callable[[datetime, datetime], Traffic | None]
) -> Weekly | None:
    """What is known of the window's hours and of its week; None before LEAST_WEEKS weeks of traffic after `since`.

    None, too, where either sample is smaller than the window: what it does not show would prove nothing. `read_span`:
    what was answered from a moment until before another, a random part of very much; None where it was nothing.
    """
    if not timedelta(0) < window.end - window.start < WEEK:
        return None
    weeks = [traffic for span in same_hours(window, since) if (traffic := read_span(*span)) is not None]
    if len(weeks) < LEAST_WEEKS or sum(map(len, weeks)) < len(window):
        return None
    week = read_span(window.end - WEEK, window.end)
    if week is None or len(week) < len(window):
        return None
    return Weekly(joined(weeks), week)


def same_hours(window: Traffic, since: datetime) -> list[Span]:
    """The window's time, or an hour around it, in each of the last MOST_WEEKS weeks that lie wholly after `since`."""
    margin = max(HOUR - (window.end - window.start), timedelta(0)) / 2
    start, end = window.start - margin, window.end + margin
    weeks = [(start - back * WEEK, end - back * WEEK) for back in range(1, MOST_WEEKS + 1)]
    return [span for span in weeks if span[0] >= since]


def with_rows_of(baseline: Baseline, traffic: Traffic) -> Baseline:
    """The baseline with other rows, to test windows against; whatever else it knows is kept."""
    counts = Counter(traffic.predicted.tolist())
    texts = [text for text in traffic.texts if text is not None]
    known = len(texts) == len(traffic)
    signals = {name: traffic.signals[name] for name in SIGNALS}
    signals["vocabulary"] = novelty(texts, baseline.words) if known else np.full(len(traffic), np.nan)
    return replace(
        baseline,
        n=len(traffic),
        signals=signals,
        class_counts=np.array([counts[name] for name in baseline.classes], dtype=np.int64),
        moments=FeatureMoments.of(baseline.features.transform(traffic.projected)),
    )


def slices_beyond_cycle(slices: Sequence[SliceFinding], same_hours: Iterable[SliceFinding]) -> tuple[SliceFinding, ...]:
    """A window's findings on slices: those that are as usual at these hours are no longer significant.

    What the same hours have too little of stays: what cannot be tested explains nothing. A slice's first rows are no
    week's mixture, so that the whole last week cannot be held against them.
    """
    usual = {other.slice for other in same_hours if other.signal and not other.significant}
    return tuple(
        replace(one, significant=False, harmful=False, note="as usual at these hours of the week")
        if one.significant and one.slice in usual
        else one
        for one in slices
    )


def beyond_cycle(
    findings: Sequence[SignalFinding], same_hours: Iterable[SignalFinding], week: Iterable[SignalFinding]
) -> tuple[SignalFinding, ...]:
    """A window's findings: those stay significant that one of the other tests finds, too, with the effect there."""
    effects: dict[str, float] = {}
    for other in (*same_hours, *week):
        if other.significant:
            effects[other.signal] = max(other.effect, effects.get(other.signal, 0.0))
    return tuple(
        replace(
            finding,
            significant=finding.significant and finding.signal in effects,
            effect=min(finding.effect, effects.get(finding.signal, finding.effect)),
        )
        for finding in findings
    )
