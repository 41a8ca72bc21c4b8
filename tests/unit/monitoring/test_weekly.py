"""The same hours of earlier weeks: which, and what they explain."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from monitoring.baseline import Baseline
from monitoring.core.settings import MonitorSettings
from monitoring.core.types import DriftReport, SignalFinding, Verdict
from monitoring.detect import judge_window, signal_findings, worth_of
from monitoring.signals import Traffic
from monitoring.slice_memory import SliceMemory
from monitoring.slices import Metadata
from monitoring.weekly import HOUR, MOST_WEEKS, WEEK, Weekly, beyond_cycle, same_hours, with_rows_of
from tests.unit.monitoring.synthetic import NOW, baseline_of, window_of


@pytest.mark.parametrize(("minutes", "margin"), [(10, 25), (60, 0), (300, 0)])
def test_the_same_hours_are_an_hour_or_the_length_of_the_window(minutes: int, margin: int) -> None:
    window = replace(window_of(10, np.random.default_rng(0))[0], end=NOW + timedelta(minutes=minutes))
    spans = same_hours(window, NOW - 30 * WEEK)
    assert len(spans) == MOST_WEEKS
    wider = timedelta(minutes=margin)
    assert spans[0] == (NOW - WEEK - wider, NOW + timedelta(minutes=minutes) - WEEK + wider)
    assert same_hours(window, NOW - 2 * WEEK - HOUR) == spans[:2]
    assert same_hours(window, spans[1][0] + timedelta(seconds=1)) == spans[:1]


def finding(signal: str, effect: float, *, significant: bool) -> SignalFinding:
    return SignalFinding(signal, effect, 0.0 if significant else 1.0, effect, 0.1, significant)


@pytest.mark.parametrize(
    ("hours", "week", "significant", "effect"),
    [
        (None, None, False, 0.3),
        (0.2, None, True, 0.2),
        (None, 0.15, True, 0.15),
        (0.2, 0.15, True, 0.2),
        (0.5, None, True, 0.3),
    ],
    ids=["the cycle", "new at these hours", "slow", "both", "never more than beside the baseline"],
)
def test_a_finding_stands_where_one_of_the_two_samples_has_it(
    hours: float | None, week: float | None, significant: bool, effect: float
) -> None:
    [left, other] = beyond_cycle(
        [finding("labels", 0.3, significant=True), finding("length", 0.02, significant=False)],
        [finding("labels", hours or 0.01, significant=hours is not None), finding("length", 0.2, significant=True)],
        [finding("labels", week or 0.01, significant=week is not None)],
    )
    assert (left.significant, left.effect) == (significant, effect)
    assert not other.significant


def test_a_window_is_no_more_often_unlike_its_own_hours_than_the_level_says(rng: np.random.Generator) -> None:
    """The hours have longer texts than the baseline, as the window has; 100 windows at a level of 5 %."""
    baseline = baseline_of(600, rng)
    same = with_rows_of(baseline, window_of(800, rng, longer=1.5)[0])
    assert same.n == 800
    assert same.class_counts.sum() == 800
    found = 0
    for _ in range(100):
        window, _ = window_of(200, rng, longer=1.5)
        found += any(part.significant for part in signal_findings(same, window, leeway=0.1, alpha=0.05))
    assert found <= 11


@pytest.mark.parametrize("slices", [(), ("channel",)], ids=["the whole", "declared slices"])
def test_the_log_is_asked_only_where_something_moved(rng: np.random.Generator, slices: tuple[str, ...]) -> None:
    baseline = baseline_of(600, rng)
    settings = MonitorSettings(slices=slices)
    asked = 0

    def usual() -> Weekly:
        nonlocal asked
        asked += 1
        return Weekly(window_of(800, rng, longer=2.0)[0], window_of(2000, rng)[0])

    def judge(**traffic: float) -> Verdict:
        window, _ = window_of(400, rng, **traffic)
        return judge_window(
            baseline, window, model="m", version="v", settings=settings, alpha=1e-3, read_weekly=usual
        ).verdict

    assert judge() is Verdict.STABLE
    assert asked == 0
    assert judge(longer=2.0) is Verdict.STABLE
    assert asked == 1
    assert judge(longer=2.0, new_topic=0.4) is Verdict.DRIFT


def test_a_slice_that_is_as_usual_at_these_hours_raises_no_alarm(rng: np.random.Generator) -> None:
    """Mail is longer by night; its first rows came by day."""
    baseline, settings = baseline_of(600, rng), MonitorSettings(slices=("channel",))

    def traffic(n: int, **of: float) -> Traffic:
        window, _ = window_of(n, rng, **of)
        codes = np.zeros(n, dtype=np.int64)
        return replace(window, metadata=Metadata.parse(codes, ['{"channel": "mail"}']))

    memory = SliceMemory().after(baseline, first := traffic(500), report_of(baseline, first), settings.slices)

    def judge(window: Traffic, weekly: Weekly | None) -> DriftReport:
        return judge_window(
            baseline,
            window,
            model="m",
            version="v",
            settings=settings,
            alpha=1e-3,
            memory=memory,
            read_weekly=lambda: weekly,
        )

    night = Weekly(traffic(1000, new_topic=0.2, longer=2.0), traffic(2000))
    alone, explained = judge(window := traffic(400, new_topic=0.2, longer=2.0), None), judge(window, night)
    assert alone.verdict is Verdict.DRIFT
    assert [one.significant for one in alone.slices] == [True]
    assert explained.verdict is Verdict.STABLE
    assert [(one.significant, one.harmful) for one in explained.slices] == [(False, False)]
    assert judge(traffic(400, new_topic=0.6, longer=2.0), night).verdict is Verdict.DRIFT


def test_clients_who_send_several_rows_are_worth_fewer_on_both_sides(rng: np.random.Generator) -> None:
    """Eight like rows of each client in the window and in the same hours: 60 windows at a level of 5 %."""
    baseline = baseline_of(600, rng)

    def of_clients(n: int) -> Traffic:
        window, _ = window_of(n // 8, rng, longer=1.5)
        rows = np.repeat(np.arange(n // 8), 8)
        return replace(
            window,
            ids=[str(number) for number in range(len(rows))],
            units=[f"client-{row}" for row in rows],
            predicted=window.predicted[rows],
            signals={name: values[rows] for name, values in window.signals.items()},
            projected=window.projected[rows],
            texts=[window.texts[row] for row in rows],
        )

    found = unaware = 0
    for _ in range(60):
        usual, window = of_clients(800), of_clients(400)
        reference = with_rows_of(baseline, usual)
        worth = worth_of(usual, baseline.strangeness(usual.signals))
        assert worth < 0.2
        told = signal_findings(reference, window, leeway=0.1, alpha=0.05, reference_worth=worth)
        found += any(finding.significant for finding in told)
        unaware += any(f.significant for f in signal_findings(reference, window, leeway=0.1, alpha=0.05))
    assert found <= 8
    assert unaware > found


def report_of(baseline: Baseline, window: Traffic) -> DriftReport:
    return judge_window(baseline, window, model="m", version="v", settings=MonitorSettings(), alpha=1e-3)
