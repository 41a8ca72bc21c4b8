"""Before you trust it: a dated, labelled file replayed through the code that judges live traffic.

A model is trained on the past and answers what came later, window by window; labels become known to the monitor only
after their delay. How models are trained and how they score is handed in. Training, approval and rollout take no time.
A recalibration that the policy decides on is told, but not played: the answers, and so every accuracy, stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from monitoring.core.errors import InvalidInput
from monitoring.core.settings import Settings
from monitoring.core.types import Verdict
from monitoring.history import Dated, History, Plan, training_rows, windows_of
from monitoring.replay import Score
from monitoring.watched import Advance, Trainer, Watched, WindowResult, iso, or_none, watch
from monitoring.whatif import Outlook, what_if

HOLDOUT_SHARE = 0.2
LEAST_ROWS = 100


@dataclass(frozen=True)
class BacktestResult:
    """All windows, what they come to, and what they would have come to under other settings."""

    windows: tuple[WindowResult, ...]
    summary: Mapping[str, Any]
    what_if: tuple[Outlook, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values; times in ISO 8601."""
        rows = [asdict(window) | {"start": iso(window.start), "end": iso(window.end)} for window in self.windows]
        outlooks = [asdict(outlook) for outlook in self.what_if]
        return {"windows": rows, "summary": dict(self.summary), "what_if": outlooks}


def backtest(
    history: History,
    plan: Plan,
    settings: Settings,
    *,
    train: Trainer,
    score: Score,
    advance: Advance,
    workers: int = 1,
) -> BacktestResult:
    """Replay `history`; `advance` is told after each window how many rows are done, and of how many.

    `workers`: processes for the what-if.

    Raises InvalidInput where the rows before or after `plan.train_until` do not suffice.
    """
    first = history.before(plan.train_until)
    _check(history, first, plan)
    spans = list(windows_of(history, plan.train_until, plan.window))
    settings = fitted_settings(settings, rows=len(history) - first, windows=len(spans), length=plan.window)
    learnt = training_rows(
        history, known=first, recent_from=0, holdout=HOLDOUT_SHARE, classes=(), least_new=0, seed=plan.seed
    )
    static = train(learnt)
    dated = Dated(history, plan, first, [span for span in spans if span[2].start < span[2].stop])
    seen = watch(dated, settings, static, score, train=train if plan.retrain else None, advance=advance)
    empty = [_empty(start, end) for start, end, rows in spans if rows.start == rows.stop]
    windows = sorted([*seen.windows, *empty], key=lambda window: window.start)
    summary = _summary(windows, plan, len(learnt), len(history) - first, seen)
    outlooks = what_if(dated, settings, static, score, workers=workers) if plan.what_if else ()
    return BacktestResult(tuple(windows), summary, outlooks)


def fitted_settings(settings: Settings, *, rows: int, windows: int, length: timedelta) -> Settings:
    """The settings with the file's own traffic and windows, so that the yearly budget of false alarms holds for it."""
    per_day = rows / max(windows * length / timedelta(days=1), 1e-9)
    traffic = {"predictions_per_day": max(round(per_day), 1), "window_size": max(round(rows / windows), 1)}
    return settings.model_copy(update={"monitor": settings.monitor.model_copy(update=traffic)})


def _empty(start: datetime, end: datetime) -> WindowResult:
    return WindowResult(start, end, 0, Verdict.INCONCLUSIVE, None, None, None, None, None, False, "")


def _summary(
    windows: Sequence[WindowResult],
    plan: Plan,
    trained_on: int,
    predictions: int,
    seen: Watched,
) -> dict[str, Any]:
    alarms = [window for window in windows if window.alarm]
    return {
        "train_until": iso(plan.train_until),
        "trained_on": trained_on,
        "label_delay_days": plan.label_delay / timedelta(days=1),
        "windows": len(windows),
        "predictions": predictions,
        "alarms": len(alarms),
        "first_alarm": iso(alarms[0].end) if alarms else None,
        "verdicts": {verdict: sum(w.verdict is verdict for w in windows) for verdict in Verdict},
        "baseline_accuracy": or_none(seen.baseline_accuracy),
        "static_accuracy": _overall(windows, "static_accuracy"),
        "retrained_accuracy": _overall(windows, "true_accuracy") if plan.retrain else None,
        "labels_per_window": plan.labels_per_window,
        **estimate_figures(windows),
        "retrainings_asked": sum(window.asked for window in windows),
        "retrainings": list(seen.retrainings),
    }


def estimate_figures(windows: Sequence[WindowResult]) -> dict[str, float | None]:
    """How good the estimates were, over windows: None where there are none.

    `estimate_error`: mean |estimate - truth|; `estimate_floor`: what a perfect estimator's would be, since the truth of
    a window is itself a draw of n; `estimate_bias`: mean estimate - truth; `estimate_coverage`: share of intervals that
    hold the truth; `cannot_tell`: share of windows of which the estimator said so.
    """
    judged = [
        (window, window.estimated_accuracy, window.true_accuracy)
        for window in windows
        if window.estimated_accuracy is not None and window.true_accuracy is not None
    ]
    names = ("estimate_error", "estimate_floor", "estimate_bias", "estimate_coverage", "cannot_tell")
    if not judged:
        return dict.fromkeys(names)
    off = np.array([estimate - truth for _, estimate, truth in judged])
    floor = [math.sqrt(2 / math.pi * truth * (1 - truth) / window.n) for window, _, truth in judged]
    held = [(w.estimate_low or 0.0) <= truth <= (w.estimate_high or 1.0) for w, _, truth in judged]
    doubted = [window.trustworthy is False for window, _, _ in judged]
    figures = (np.abs(off).mean(), np.mean(floor), off.mean(), np.mean(held), np.mean(doubted))
    return dict(zip(names, map(float, figures), strict=True))


def _overall(windows: Sequence[WindowResult], name: str) -> float | None:
    """A share over all predictions."""
    rows = [(window.n, getattr(window, name)) for window in windows if window.n]
    return sum(n * share for n, share in rows) / sum(n for n, _ in rows) if rows else None


def _check(history: History, first: int, plan: Plan) -> None:
    if plan.window <= timedelta(0) or plan.label_delay < timedelta(0):
        raise InvalidInput("the window must be longer than nothing, and labels cannot come early", field="window")
    for rows, when, cure in (
        (first, "before", "train until later"),
        (len(history) - first, "after", "train until earlier"),
    ):
        if rows < LEAST_ROWS:
            raise InvalidInput(
                f"only {rows} rows are {when} {plan.train_until:%Y-%m-%d}, at least {LEAST_ROWS} are needed: {cure}",
                field="train_until",
            )
