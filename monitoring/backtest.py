"""Before you trust it: a dated, labelled file replayed through the code that judges live traffic.

A model is trained on the past and answers what came later, window by window; labels become known to the monitor only
after their delay. How models are trained and how they score is handed in. Training, approval and rollout take no time.
A recalibration that the policy decides on is told, but not played: the answers, and so every accuracy, stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from monitoring.baseline import calibration_of
from monitoring.core.bundle import Bundle
from monitoring.core.errors import InvalidInput
from monitoring.core.settings import Settings
from monitoring.core.signals import Predictions
from monitoring.core.types import JobState, TrainingJob, Verdict
from monitoring.episodes import DRIFT, QUALITY
from monitoring.history import History, TrainingRows, training_rows, windows_of
from monitoring.policy import Action
from monitoring.replay import Replay, Score, Sight

HOLDOUT_SHARE = 0.2
LEAST_ROWS = 100
ALARMS = frozenset({DRIFT, QUALITY})

Trainer = Callable[[TrainingRows], Bundle]
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """What is replayed: a model that learns from rows before `train_until`, then windows of length `window`."""

    train_until: datetime
    window: timedelta
    label_delay: timedelta
    retrain: bool
    seed: int


@dataclass(frozen=True)
class WindowResult:
    """One window as the monitor judged it, beside the truth. None: nothing can be said, as of a window without rows.

    `alarm`: an alert of drift or quality fired at its end; `signals`: effect by signal; `static_accuracy`: of the first
    model, never retrained; `decision`: what the policy said about retraining.
    """

    start: datetime
    end: datetime
    n: int
    verdict: Verdict
    estimated_accuracy: float | None
    estimate_low: float | None
    estimate_high: float | None
    true_accuracy: float | None
    ece: float | None
    alarm: bool
    version: str
    effect: float = 0.0
    reason: str = "no predictions"
    alerts: tuple[str, ...] = ()
    decision: str = ""
    static_accuracy: float | None = None
    signals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BacktestResult:
    """All windows, and what they come to."""

    windows: tuple[WindowResult, ...]
    summary: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Plain values; times in ISO 8601."""
        rows = [asdict(window) | {"start": _iso(window.start), "end": _iso(window.end)} for window in self.windows]
        return {"windows": rows, "summary": dict(self.summary)}


def backtest(
    history: History, plan: Plan, settings: Settings, *, train: Trainer, score: Score, advance: Advance
) -> BacktestResult:
    """Replay `history`; `advance` is told after each window how many rows are done, and of how many.

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
    with closing(Replay(settings, label_delay=plan.label_delay, score=score)) as replay:
        replay.enthrone(static, learnt_until=plan.train_until, now=plan.train_until)
        baseline_accuracy = replay.champion.baseline.expected_accuracy
        windows: list[WindowResult] = []
        retrainings: list[dict[str, Any]] = []
        for start, end, rows in spans:
            if rows.start == rows.stop:
                windows.append(_empty(start, end, replay.champion.version.name))
                continue
            texts, truth = history.texts[rows], history.labels[rows]
            sight, answers = replay.show(texts, truth, history.times[rows], start=start, end=end)
            alone = score(static, texts) if retrainings else answers
            windows.append(_result(sight, answers, alone, truth, replay, static, start, end))
            if sight.job is not None and plan.retrain:
                retrainings.append(_retrain(history, plan, settings, sight.job, replay, train, end))
            elif sight.job is not None:
                replay.finish(sight.job, JobState.FAILED, now=end)
            advance(rows.stop - first, len(history) - first)
    summary = _summary(windows, plan, len(learnt), len(history) - first, baseline_accuracy, retrainings)
    return BacktestResult(tuple(windows), summary)


def fitted_settings(settings: Settings, *, rows: int, windows: int, length: timedelta) -> Settings:
    """The settings with the file's own traffic and windows, so that the yearly budget of false alarms holds for it."""
    per_day = rows / max(windows * length / timedelta(days=1), 1e-9)
    traffic = {"predictions_per_day": max(round(per_day), 1), "window_size": max(round(rows / windows), 1)}
    return settings.model_copy(update={"monitor": settings.monitor.model_copy(update=traffic)})


def _retrain(
    history: History, plan: Plan, settings: Settings, job: TrainingJob, replay: Replay, train: Trainer, now: datetime
) -> dict[str, Any]:
    """Train on all that is labelled by now; the hold-out is of rows since the drift began, or of the newest."""
    learnt_until = now - plan.label_delay
    known = history.before(learnt_until)
    onset = job.request.get("onset_at")
    recent = known if onset is None else history.before(datetime.fromisoformat(onset))
    learnt = training_rows(
        history,
        known=known,
        recent_from=max(min(recent, known - settings.monitor.window_size), 0),
        holdout=settings.retrain.holdout_fraction,
        classes=replay.champion.version.labels,
        least_new=settings.retrain.new_class_examples,
        seed=plan.seed,
    )
    bundle = train(learnt)
    replay.finish(job, JobState.SUCCEEDED, now=now)
    version = replay.enthrone(bundle, learnt_until=learnt_until, now=now)
    return {
        "at": _iso(now),
        "version": version.name,
        "cause": job.cause,
        "reason": job.reason,
        "rows": len(learnt),
        "holdout_accuracy": _known(replay.champion.baseline.expected_accuracy),
    }


def _result(
    sight: Sight,
    answers: Predictions,
    alone: Predictions,
    truth: Sequence[str],
    replay: Replay,
    static: Bundle,
    start: datetime,
    end: datetime,
) -> WindowResult:
    report = sight.report
    correct = _correct(answers, replay.champion.version.labels, truth)
    return WindowResult(
        start=start,
        end=end,
        n=report.n,
        verdict=report.verdict,
        estimated_accuracy=_known(report.estimated_accuracy.value),
        estimate_low=_known(report.estimated_accuracy.low),
        estimate_high=_known(report.estimated_accuracy.high),
        true_accuracy=float(correct.mean()),
        ece=_known(calibration_of(answers.confidence, correct)["ece_debiased"]),
        alarm=bool(ALARMS.intersection(sight.fired)),
        version=replay.champion.version.name,
        effect=report.effect,
        reason=report.reason,
        alerts=sight.fired,
        decision=sight.decision.reason if sight.decision.action is not Action.NONE else "",
        static_accuracy=float(_correct(alone, static.config.labels, truth).mean()),
        signals={finding.signal: finding.effect for finding in report.findings},
    )


def _empty(start: datetime, end: datetime, version: str) -> WindowResult:
    return WindowResult(start, end, 0, Verdict.INCONCLUSIVE, None, None, None, None, None, False, version)


def _summary(
    windows: Sequence[WindowResult],
    plan: Plan,
    trained_on: int,
    predictions: int,
    baseline_accuracy: float,
    retrainings: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    judged = [window for window in windows if window.estimated_accuracy is not None]
    errors = [abs((w.estimated_accuracy or 0.0) - (w.true_accuracy or 0.0)) for w in judged]
    held = [(w.estimate_low or 0.0) <= (w.true_accuracy or 0.0) <= (w.estimate_high or 0.0) for w in judged]
    alarms = [window for window in windows if window.alarm]
    return {
        "train_until": _iso(plan.train_until),
        "trained_on": trained_on,
        "label_delay_days": plan.label_delay / timedelta(days=1),
        "windows": len(windows),
        "predictions": predictions,
        "alarms": len(alarms),
        "first_alarm": _iso(alarms[0].end) if alarms else None,
        "verdicts": {verdict: sum(w.verdict is verdict for w in windows) for verdict in Verdict},
        "baseline_accuracy": _known(baseline_accuracy),
        "static_accuracy": _overall(windows, "static_accuracy"),
        "retrained_accuracy": _overall(windows, "true_accuracy") if plan.retrain else None,
        "estimate_error": float(np.mean(errors)) if errors else None,
        "estimate_coverage": float(np.mean(held)) if held else None,
        "retrainings": list(retrainings),
    }


def _overall(windows: Sequence[WindowResult], name: str) -> float | None:
    """A share over all predictions."""
    rows = [(window.n, getattr(window, name)) for window in windows if window.n]
    return sum(n * share for n, share in rows) / sum(n for n, _ in rows) if rows else None


def _correct(answers: Predictions, classes: Sequence[str], truth: Sequence[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    predicted = np.asarray(classes, dtype=np.str_)[answers.predicted]
    return np.asarray(predicted == np.asarray(truth, dtype=np.str_))


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


def _known(value: float) -> float | None:
    """JSON has no nan."""
    return value if math.isfinite(value) else None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
