"""Six weeks of traffic with a weekly cycle, a bot and a new topic: what detector and windows say before and after.

Nothing here is independent and identically distributed: other topics are asked about by day and by night and at
weekends, most of it by day, and one client repeats one text. The baseline is a week's mixture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitoring.baseline import Baseline
from monitoring.budget import alarm_budget
from monitoring.core.admission import Admission
from monitoring.core.settings import MonitorSettings
from monitoring.core.types import Verdict
from monitoring.detect import judge_window
from monitoring.signals import Traffic
from monitoring.stats.sequential import EDetector
from monitoring.weekly import weekly_of
from tests.benchmarks.verdicts.draws import FAR, NONE, Extent, Rows
from tests.benchmarks.verdicts.scored import Scored, load

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
WEEKS, LEARNING, CHANGE = 6, 2, 4
WEEK_S, HOUR_S = 604_800, 3_600
A_DAY = 5_000
WINDOW = 500
BASELINE_ROWS = 20_000
CHUNK = 5_000
NEW_SHARE = 0.05
SWING = 0.7
"""Log of how much more often than on average a topic is asked about at its best hour: twice as often."""
BOT_ROWS, BOT_SECONDS = 4_000, 1_200
"""Once a week, one text of one client."""


@dataclass(frozen=True)
class Kind:
    """What the six weeks are like."""

    name: str
    cycle: bool = False
    bot: bool = False
    new: bool = False


KINDS = (
    Kind("no cycle"),
    Kind("cycle", cycle=True),
    Kind("cycle and bot", cycle=True, bot=True),
    Kind("cycle, then far 5 %", cycle=True, new=True),
)


@dataclass(frozen=True)
class Weeks:
    """What was said in `streams` streams of one kind.

    `early`, `late`: alarms of the detector in the first two weeks and in weeks three and four; `drift`: windows with
    verdict DRIFT and all windows, for the same two spans and for the last two weeks; `delays`: counted predictions from
    the beginning of week five to the detector's next alarm, inf without one.
    """

    kind: str
    streams: int
    early: int
    late: int
    drift: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    delays: tuple[float, ...]


@dataclass(frozen=True)
class Task:
    """One stream."""

    scored: Path
    kind: Kind
    number: int


def tasks(scored: Path, extent: Extent) -> list[Task]:
    """The same number of streams of every kind."""
    return [Task(scored, kind, number) for kind in KINDS for number in range(max(2, extent.runs // 500))]


def watch(task: Task) -> Weeks:
    """Six weeks through admission, detector and windows."""
    scored, kind = load(task.scored), task.kind
    rng = np.random.default_rng([task.number, KINDS.index(kind)])
    settings = MonitorSettings(predictions_per_day=A_DAY, window_size=WINDOW)
    budget = alarm_budget(settings)
    baseline = _baseline(scored, kind, rng, task.number)
    at, rows, units = _stream(scored, kind, rng)
    admitted = np.array(
        Admission().judge(
            {"version": "1", "at_us": int(second * 1e6), "unit": unit, "text": scored.texts[row]}
            for second, row, unit in zip(at, rows, units, strict=True)
        )
    )
    at, rows, units = at[admitted], rows[admitted], units[admitted]
    alarms = _alarms(scored, baseline, at, rows, budget.sequential_threshold, rng)
    change = float(CHANGE * WEEK_S)
    later = [number for number in alarms if at[number] >= change]
    before = int(np.searchsorted(at, change))
    in_weeks = partial(_count, at[alarms] / WEEK_S if alarms else np.empty(0))
    return Weeks(
        kind.name,
        1,
        in_weeks(0, LEARNING),
        in_weeks(LEARNING, CHANGE),
        _judge(scored, baseline, at, rows, units, settings, budget.window_alpha),
        (float(later[0] - before + 1) if later else math.inf,),
    )


def add_up(parts: Sequence[Weeks]) -> list[Weeks]:
    """One per kind."""
    total = []
    for kind in dict.fromkeys(part.kind for part in parts):
        of = [part for part in parts if part.kind == kind]
        spans = zip(*(part.drift for part in of), strict=True)
        first, second, third = ((sum(n for n, _ in span), sum(n for _, n in span)) for span in spans)
        total.append(
            Weeks(
                kind,
                len(of),
                sum(part.early for part in of),
                sum(part.late for part in of),
                (first, second, third),
                tuple(delay for part in of for delay in part.delays),
            )
        )
    return total


def _stream(scored: Scored, kind: Kind, rng: np.random.Generator) -> tuple[NDArray[np.float64], Rows, NDArray[np.str_]]:
    """Seconds since START (n,), sorted; rows; clients."""
    at = _moments(WEEKS * 7 * A_DAY, WEEKS, kind, rng)
    rows = _rows_at(scored, at, kind, rng)
    if kind.new:
        fresh = (at >= CHANGE * WEEK_S) & (rng.random(len(at)) < NEW_SHARE)
        rows = np.where(fresh, rng.choice(scored.places[FAR], len(at)), rows)
    units = rng.integers(0, 1 << 40, len(at)).astype(np.str_)
    if kind.bot:
        began = rng.uniform(0, WEEK_S, WEEKS) + np.arange(WEEKS) * WEEK_S
        bot = (began[:, None] + np.sort(rng.uniform(0, BOT_SECONDS, (WEEKS, BOT_ROWS)))).ravel()
        at = np.concatenate([at, bot])
        rows = np.concatenate([rows, np.repeat(rng.choice(scored.places[NONE], WEEKS), BOT_ROWS)])
        units = np.concatenate([units, np.repeat("bot", len(bot))])
    order = np.argsort(at, kind="stable")
    return at[order], rows[order], units[order]


def _moments(n: int, weeks: int, kind: Kind, rng: np.random.Generator) -> NDArray[np.float64]:
    """Seconds (n,) within so many weeks: by day nearly twice as many as on average where there is a cycle."""
    at = rng.uniform(0, weeks * WEEK_S, 3 * n)
    if kind.cycle:
        busy = (1 + np.sin(2 * np.pi * (at % 86_400) / 86_400 - np.pi / 2) * 0.9) / 1.9
        at = at[rng.random(len(at)) < busy]
    return np.sort(at[:n])


def _rows_at(scored: Scored, at: NDArray[np.float64], kind: Kind, rng: np.random.Generator) -> Rows:
    """A row of the pool for each moment; with a cycle the topics go up and down, each with an hour of its own."""
    pool = scored.places[NONE]
    if not kind.cycle:
        return rng.choice(pool, len(at))
    topics, members = np.unique(scored.labels[pool], return_inverse=True)
    best = np.random.default_rng(0).uniform(0, 2 * np.pi, (2, len(topics)))  # the same cycle in every stream
    hours = np.arange(WEEK_S // HOUR_S)
    weekend = (hours >= 120).astype(np.int64)
    swing = np.exp(SWING * np.cos(2 * np.pi * hours[:, None] / 24 - best[weekend]))
    drawn = np.empty(len(at), dtype=np.int64)
    hour_of = ((at % WEEK_S) // HOUR_S).astype(np.int64)
    for hour in hours:
        mine = np.flatnonzero(hour_of == hour)
        weights = swing[hour][members]
        drawn[mine] = rng.choice(pool, len(mine), p=weights / weights.sum())
    return drawn


def _baseline(scored: Scored, kind: Kind, rng: np.random.Generator, number: int) -> Baseline:
    rows = _rows_at(scored, _moments(BASELINE_ROWS, 1, kind, rng), kind, rng)
    return scored.baseline_of(rows, seed=number)


def _alarms(
    scored: Scored,
    baseline: Baseline,
    at: NDArray[np.float64],
    rows: Rows,
    threshold: float,
    rng: np.random.Generator,
) -> list[int]:
    """Numbers of the predictions at which the detector alarms."""
    scores = scored.detector_scores(baseline)
    detector = EDetector.start(baseline.edges, baseline.scores(), threshold)
    seconds = at.astype(np.int64) + int(START.timestamp())
    alarms = []
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        raised = detector.update({name: values[rows[part]] for name, values in scores.items()}, rng, seconds[part])
        alarms += [start + alarm.index for alarm in raised]
    return alarms


def _judge(
    scored: Scored,
    baseline: Baseline,
    at: NDArray[np.float64],
    rows: Rows,
    units: NDArray[np.str_],
    settings: MonitorSettings,
    alpha: float,
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """DRIFT verdicts and windows in the first two, the next two and the last two weeks."""

    def traffic(first: int, last: int) -> Traffic:
        moments = [START + timedelta(seconds=float(at[number])) for number in (first, last - 1)]
        answers = scored.traffic(rows[first:last], start=moments[0], end=moments[1])
        seconds = int(START.timestamp()) + at[first:last].astype(np.int64)
        return replace(answers, units=units[first:last].tolist(), seconds=seconds)

    def read_span(start: datetime, end: datetime) -> Traffic | None:
        first, last = np.searchsorted(at, [(moment - START).total_seconds() for moment in (start, end)])
        return traffic(int(first), int(last)) if last > first else None

    drifts, windows = [0, 0, 0], [0, 0, 0]
    for first in range(0, len(rows) - WINDOW + 1, WINDOW):
        window = traffic(first, first + WINDOW)
        report = judge_window(
            baseline,
            window,
            model="bench",
            version="1",
            settings=settings,
            alpha=alpha,
            read_weekly=partial(weekly_of, window, START, read_span),
        )
        span = np.searchsorted([LEARNING, CHANGE], at[first] / WEEK_S, side="right")
        windows[span] += 1
        drifts[span] += report.verdict is Verdict.DRIFT
    first_two, next_two, last_two = zip(drifts, windows, strict=True)
    return first_two, next_two, last_two


def _count(weeks: NDArray[np.float64], start: int, end: int) -> int:
    return int(np.count_nonzero((weeks >= start) & (weeks < end)))
