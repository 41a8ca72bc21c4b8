"""A week's cycle is no drift once it is known, and drift is still drift."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.stats.binning import FloatArray, IntArray, bin_count, bin_edges, bin_indices
from monitoring.stats.cycle import HOURS, WeeklyHistogram, hour_of_week
from monitoring.stats.sequential import DetectorAlarm, EDetector

WEEK = HOURS * 3600
MONDAY = 1_767_571_200  # 2026-01-05 00:00 UTC


def daily(at: IntArray, rng: np.random.Generator, *, cycle: float, shift: FloatArray | float = 0.0) -> FloatArray:
    """A score that is higher by day than by night, by up to `cycle` standard deviations."""
    phase = np.sin(2 * np.pi * (at % 86_400) / 86_400)
    return np.asarray(rng.normal(size=len(at)) + cycle * phase + shift)


def run(
    *, weeks: int, cycle: float, seed: int, new_topic_from: int | None = None, per_week: int = 14_000, c: float = 1e4
) -> tuple[list[DetectorAlarm], IntArray]:
    """Alarms over the weeks, and when each prediction was made."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(MONDAY, MONDAY + weeks * WEEK, weeks * per_week))
    fresh = np.zeros(len(at)) if new_topic_from is None else (at >= new_topic_from) & (rng.random(len(at)) < 0.2)
    scores = daily(at, rng, cycle=cycle, shift=5.0 * fresh)
    baseline = daily(rng.integers(MONDAY - WEEK, MONDAY, 3000), rng, cycle=cycle)
    edges = {"score": bin_edges(daily(rng.integers(MONDAY - WEEK, MONDAY, 1000), rng, cycle=cycle))}
    detector = EDetector.start(edges, {"score": baseline}, c)
    return detector.update({"score": scores}, rng, at), at


def test_hours_and_weeks_are_counted_from_monday() -> None:
    weeks, hours = hour_of_week([MONDAY, MONDAY + 3600 * 9 + 59, MONDAY - 1, MONDAY + WEEK])
    assert hours.tolist() == [0, 9, 167, 0]
    assert (weeks - weeks[0]).tolist() == [0, 0, -1, 1]


def test_a_strong_cycle_raises_no_more_alarms_than_the_bound_once_it_is_learned() -> None:
    after = [
        alarm
        for seed in range(4)
        for alarms, at in [run(weeks=8, cycle=1.5, seed=seed)]
        for alarm in alarms
        if at[alarm.n_seen - 1] >= MONDAY + 4 * WEEK
    ]
    assert all(alarm.cycle_learned for alarm in after)
    assert len(after) <= 35  # 224,000 predictions at c = 10,000: 22 on average at most


def weeks_of_a_cycle(n: int, seed: int) -> tuple[IntArray, FloatArray]:
    """Moments in order over `n` weeks, and a score with a strong cycle at them."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(MONDAY, MONDAY + n * WEEK, n * 14_000))
    return at, daily(at, rng, cycle=1.5)


def test_a_detector_begins_with_the_cycle_that_earlier_weeks_have_shown_and_keeps_its_bound() -> None:
    alarms: list[DetectorAlarm] = []
    for seed in range(4):
        at, scores = weeks_of_a_cycle(8, seed)
        edges = bin_edges(scores[::29])
        before, after = np.flatnonzero(at < MONDAY + 4 * WEEK), np.flatnonzero(at >= MONDAY + 4 * WEEK)
        week = WeeklyHistogram.empty(1, bin_count(edges))
        for part in np.array_split(np.random.default_rng(seed).permutation(before), 3):  # in whatever order it is read
            week.add_span(at[np.sort(part)], bin_indices(scores[np.sort(part)], edges)[None])
        detector = EDetector.start({"score": edges}, {"score": scores[before]}, 1e4, week)
        found = detector.update({"score": scores[after]}, np.random.default_rng(seed), at[after])
        alarms += found
        assert week.counts.sum() == len(before), "the detector counts on a copy"
    assert all(alarm.cycle_learned for alarm in alarms)
    assert len(alarms) <= 35  # 224,000 predictions at c = 10,000: 22 on average at most


def test_a_span_is_counted_as_the_detector_counts_its_stream() -> None:
    at, scores = weeks_of_a_cycle(4, 1)
    edges = bin_edges(scores[::29])
    detector = EDetector.start({"score": edges}, {"score": scores[:500]}, 1e9)
    detector.update({"score": scores}, np.random.default_rng(1), at)
    week = WeeklyHistogram.empty(1, bin_count(edges))
    for day in np.array_split(np.arange(len(at)), 28):
        week.add_span(at[day], bin_indices(scores[day], edges)[None])
    streamed = {name.removeprefix("week_"): values for name, values in detector.to_arrays().items()}
    assert all(np.array_equal(values, streamed[name]) for name, values in week.to_arrays().items())
    assert week.learned() == HOURS


def test_without_the_clock_the_same_cycle_would_raise_hundreds() -> None:
    rng = np.random.default_rng(0)
    at = np.sort(rng.integers(MONDAY, MONDAY + 4 * WEEK, 56_000))
    edges = {"score": bin_edges(daily(at[:1000], rng, cycle=1.5))}
    baseline = daily(rng.integers(MONDAY - WEEK, MONDAY, 3000), rng, cycle=1.5)
    detector = EDetector.start(edges, {"score": baseline}, 1e4)
    assert len(detector.update({"score": daily(at, rng, cycle=1.5)}, rng)) > 100


def test_a_new_topic_is_found_within_the_learned_cycle() -> None:
    start = MONDAY + 5 * WEEK + 40 * 3600
    delays = []
    for seed in range(5):
        alarms, at = run(weeks=6, cycle=1.5, seed=seed, new_topic_from=start, c=1e6)
        begun = int(np.searchsorted(at, start))
        first = next(alarm for alarm in alarms if alarm.n_seen > begun)
        assert first.cycle_learned
        delays.append(first.n_seen - begun)
    assert np.median(delays) < 150


def test_nothing_is_learned_from_one_week_or_from_few_rows() -> None:
    week = WeeklyHistogram.empty(scores=2, bins=10)
    rows = np.zeros((2, 600), dtype=np.int64)
    for hour in range(HOURS):
        week.add(0, hour, rows)
    assert week.usual(9) is None
    week.add(1, 9, rows[:, :1])
    assert week.usual(9) is not None
    assert week.usual(10) is None
    few = WeeklyHistogram.empty(scores=2, bins=10)
    for number in (0, 1):
        few.add(number, 9, rows[:, :100])
    assert few.usual(9) is None


def test_a_thin_hour_borrows_from_the_same_hour_of_other_working_days_and_not_from_the_weekend() -> None:
    week = WeeklyHistogram.empty(scores=1, bins=8)
    for number in (0, 1):
        for day in range(7):
            week.add(number, 24 * day + 9, np.full((1, 60), 0 if day < 5 else 7))
    usual = week.usual(24 + 9)
    assert usual is not None
    assert usual.tolist() == [[600, 0]]
    assert week.usual(24 * 6 + 9) is None  # 240 rows on both days of the weekend


def test_a_clock_that_jumps_back_brings_no_new_week() -> None:
    week = WeeklyHistogram.empty(scores=1, bins=8)
    rows = np.zeros((1, 400), dtype=np.int64)
    for number in (5, 4, 3):
        week.add(number, 9, rows)
    assert week.usual(9) is None
    week.add(6, 9, rows)
    assert week.usual(9) is not None


@pytest.mark.parametrize("cut", [1, 1000, 9999])
def test_a_detector_that_was_kept_and_read_goes_on_alike(cut: int) -> None:
    rng = np.random.default_rng(3)
    at = np.sort(rng.integers(MONDAY, MONDAY + 3 * WEEK, 20_000))
    scores = daily(at, rng, cycle=1.0)
    edges, baseline = {"score": bin_edges(scores[:500])}, {"score": scores[:500]}
    whole = EDetector.start(edges, baseline, 1e3)
    kept = EDetector.start(edges, baseline, 1e3)
    kept.update({"score": scores[:cut]}, np.random.default_rng(1), at[:cut])
    kept = EDetector.from_arrays(kept.to_arrays())
    whole.update({"score": scores[:cut]}, np.random.default_rng(1), at[:cut])
    rest = [each.update({"score": scores[cut:]}, np.random.default_rng(2), at[cut:]) for each in (whole, kept)]
    assert rest[0] == rest[1]
    assert whole.statistic == kept.statistic
