"""Every window of a dated past, shown to the monitor: what it said, beside the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from monitoring.baseline import calibration_of
from monitoring.core.bundle import Bundle
from monitoring.core.settings import Settings
from monitoring.core.signals import Predictions
from monitoring.core.types import JobState, TrainingJob, Verdict
from monitoring.episodes import DRIFT, QUALITY
from monitoring.history import Dated, History, Plan, TrainingRows, training_rows
from monitoring.policy import Action
from monitoring.replay import Replay, Score, Sight

ALARMS = frozenset({DRIFT, QUALITY})

Trainer = Callable[[TrainingRows], Bundle]
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class WindowResult:
    """One window as the monitor judged it, beside the truth. None: nothing can be said, as of a window without rows.

    `alarm`: an alert of drift or quality fired at its end; `signals`: effect by signal, and those that `moved` beyond
    chance; `static_accuracy`: of the first model, never retrained; `decision`: what the policy said about retraining,
    and whether it `asked` for one; `trustworthy`: the estimate was given without 'cannot tell'.
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
    asked: bool = False
    trustworthy: bool | None = None
    static_accuracy: float | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    moved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watched:
    """The windows in order, the retrainings, and the accuracy that the first model's baseline has."""

    windows: tuple[WindowResult, ...]
    retrainings: tuple[Mapping[str, Any], ...]
    baseline_accuracy: float


def watch(
    dated: Dated, settings: Settings, static: Bundle, score: Score, *, train: Trainer | None, advance: Advance
) -> Watched:
    """Show every window to a monitor with these `settings`; retrain with `train`, if any, whenever the policy asks."""
    history, plan = dated.history, dated.plan
    windows: list[WindowResult] = []
    retrainings: list[dict[str, Any]] = []
    with closing(Replay(settings, label_delay=plan.label_delay, score=score)) as replay:
        replay.enthrone(static, learnt_until=plan.train_until, now=plan.train_until)
        baseline_accuracy = replay.champion.baseline.expected_accuracy
        for start, end, rows in dated.spans:
            texts, truth = history.texts[rows], history.labels[rows]
            sight, answers = replay.show(texts, truth, history.times[rows], dated.asked(rows), start=start, end=end)
            alone = score(static, texts) if retrainings else answers
            windows.append(_result(sight, answers, alone, truth, replay, static, start, end))
            if sight.job is not None and train is not None:
                retrainings.append(_retrain(dated.labelled(), plan, settings, sight.job, replay, train, end))
            elif sight.job is not None:
                replay.finish(sight.job, JobState.FAILED, now=end)
            advance(rows.stop - dated.first, len(history) - dated.first)
    return Watched(tuple(windows), tuple(retrainings), baseline_accuracy)


def iso(moment: datetime) -> str:
    """A moment as JSON has it."""
    return moment.astimezone(UTC).isoformat()


def or_none(value: float) -> float | None:
    """JSON has no nan."""
    return value if math.isfinite(value) else None


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
        "at": iso(now),
        "version": version.name,
        "cause": job.cause,
        "reason": job.reason,
        "rows": len(learnt),
        "holdout_accuracy": or_none(replay.champion.baseline.expected_accuracy),
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
        estimated_accuracy=or_none(report.estimated_accuracy.value),
        estimate_low=or_none(report.estimated_accuracy.low),
        estimate_high=or_none(report.estimated_accuracy.high),
        true_accuracy=float(correct.mean()),
        ece=or_none(calibration_of(answers.confidence, correct)["ece_debiased"]),
        alarm=bool(ALARMS.intersection(sight.fired)),
        version=replay.champion.version.name,
        effect=report.effect,
        reason=report.reason,
        alerts=sight.fired,
        decision=sight.decision.reason if sight.decision.action is not Action.NONE else "",
        asked=sight.job is not None,
        trustworthy=report.estimate_trustworthy,
        static_accuracy=float(_correct(alone, static.config.labels, truth).mean()),
        signals={finding.signal: finding.effect for finding in report.findings},
        moved=tuple(finding.signal for finding in report.findings if finding.significant),
    )


def _correct(answers: Predictions, classes: Sequence[str], truth: Sequence[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    predicted = np.asarray(classes, dtype=np.str_)[answers.predicted]
    return np.asarray(predicted == np.asarray(truth, dtype=np.str_))
