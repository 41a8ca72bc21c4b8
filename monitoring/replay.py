"""The watching of one model, replayed: the parts that judge live traffic, on a ledger in memory, at any time of day."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from monitoring.baseline import Baseline, detector_scores
from monitoring.budget import alarm_budget
from monitoring.conclusions import conclude
from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle
from monitoring.core.ledger import jobs, labels, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import Settings
from monitoring.core.signals import SIGNALS, Floats, Predictions
from monitoring.core.types import (
    DriftReport,
    JobState,
    LabelSource,
    ModelVersion,
    Outcome,
    RetrainCause,
    Stage,
    TrainingJob,
    Variant,
    Verdict,
)
from monitoring.detect import LabelledRows, judge_window
from monitoring.episodes import DRIFT, SequentialAlarm
from monitoring.intake import Reign, StreamPoint
from monitoring.policy import Action, Decision
from monitoring.progress import Progress
from monitoring.sighting import MAX_REFIT_LABELS, Champion, Sighting, random_for
from monitoring.signals import Traffic, traffic_of
from monitoring.stats.sequential import EDetector

MODEL, ACTOR = "backtest", "backtest"
LEASE = timedelta(days=1)

Score = Callable[[Bundle, Sequence[str]], Predictions]


@dataclass(frozen=True)
class Sight:
    """What the monitor made of one window: its report, the alerts it fired, and what it decided about retraining.

    `job`: the retraining that it asked for. A recalibration is decided on, too, but the champion answers on as it is.
    """

    report: DriftReport
    fired: tuple[str, ...]
    decision: Decision
    job: TrainingJob | None


@dataclass
class Answered:
    """What the present champion has answered so far, in order: times, signals, and whether it was right."""

    times: list[datetime]
    signals: dict[str, Floats]
    correct: np.ndarray[tuple[int], np.dtype[np.bool_]]


class Replay:
    """Shows windows of the past to the monitor's parts; `settings.monitor` must fit the file's traffic."""

    def __init__(self, settings: Settings, *, label_delay: timedelta, score: Score) -> None:
        self._settings = settings
        self._delay = label_delay
        self._score = score
        self._ledger = Ledger.open("sqlite://")
        self._ledger.upgrade()
        self._unlabelled: list[Outcome] = []
        self._known: list[Outcome] = []

    def enthrone(self, bundle: Bundle, *, learnt_until: datetime, now: datetime) -> ModelVersion:
        """Put a model into production; its detector and windows begin anew."""
        lineage = {"as_of": learnt_until.isoformat(), "cause": "backtest"}
        with self._ledger.begin() as connection:
            version = versions.add(
                connection,
                model=MODEL,
                bundle_uri=str(bundle.folder),
                bundle_hash=bundle.hash,
                labels=bundle.config.labels,
                lineage=lineage,
                evidence={},
                actor=ACTOR,
                now=now,
            )
            state = versions.model_state(connection, MODEL)
            steps = [(version.id, stage) for stage in (Stage.AWAITING_APPROVAL, Stage.APPROVED, Stage.PRODUCTION)]
            if state.production is not None:
                steps.insert(0, (state.production, Stage.ARCHIVED))
            for moved, stage in steps:
                moving = versions.get(connection, moved)
                versions.move(connection, moving, stage, actor=ACTOR, reason="a replay waits for nobody", now=now)
            versions.set_champion(connection, state, production=version.id, previous=None, watch_until=None, now=now)
        baseline = Baseline.load(bundle.path(bundles.BASELINE))
        threshold = alarm_budget(self._settings.monitor).sequential_threshold
        detector = EDetector.start(baseline.edges, baseline.scores(), threshold)
        self._bundle = bundle
        self._champion = Champion(version, Reign(version.id, now), baseline, detector)
        self._progress = Progress()
        self._answered = Answered([], {name: np.empty(0) for name in SIGNALS}, np.empty(0, dtype=np.bool_))
        self._known = []
        return version

    @property
    def champion(self) -> Champion:
        """The version that answers now."""
        return self._champion

    def show(
        self, texts: Sequence[str], truth: Sequence[str], times: Sequence[datetime], *, start: datetime, end: datetime
    ) -> tuple[Sight, Predictions]:
        """Let the champion answer one window, judge it as of `end`, and act on it."""
        predictions = self._score(self._bundle, texts)
        seen = len(self._answered.times)
        ids = [f"{self._champion.version.name}:{seen + row}" for row in range(len(texts))]
        traffic = traffic_of(predictions, self._bundle.config.labels, ids=ids, texts=texts, start=start, end=end)
        self._remember(traffic, truth, times)
        with self._ledger.begin() as connection:
            labels.add_outcomes(connection, self._labelled_by(end))
        report = self._judge(traffic)
        sighting = self._sight(traffic, report, times)
        with self._ledger.begin() as connection:
            changes, decision = conclude(connection, sighting, self._settings, now=end)
            asked = decision.action in (Action.RETRAIN, Action.RECALIBRATE)
            job = jobs.claim(connection, owner=ACTOR, lasts=LEASE, now=end) if asked else None
            if job is not None and job.cause is RetrainCause.CALIBRATION:  # told, but not played
                jobs.finish(connection, job, JobState.FAILED, reason="not replayed", result={}, now=end)
                job = None
        fired = tuple(firing.name for firing in changes.fire)
        self._progress = dataclasses.replace(self._progress, quiet=0) if DRIFT in fired else self._progress
        return Sight(report, fired, decision, job), predictions

    def finish(self, job: TrainingJob, state: JobState, *, now: datetime) -> None:
        """The retraining that was asked for is done, or is not wanted."""
        with self._ledger.begin() as connection:
            jobs.finish(connection, job, state, reason="replayed", result={}, now=now)

    def close(self) -> None:
        """Forget everything."""
        self._ledger.close()

    def _remember(self, traffic: Traffic, truth: Sequence[str], times: Sequence[datetime]) -> None:
        known = self._answered
        right = traffic.predicted == np.asarray(truth, dtype=np.str_)
        self._answered = Answered(
            times=[*known.times, *times],
            signals={name: np.concatenate([known.signals[name], traffic.signals[name]]) for name in SIGNALS},
            correct=np.concatenate([known.correct, right]),
        )
        confidence = traffic.signals["confidence"].tolist()
        rows = zip(traffic.ids, traffic.predicted.tolist(), truth, confidence, times, strict=True)
        self._unlabelled += [
            Outcome(
                prediction_id=name,
                model=MODEL,
                version=self._champion.version.id,
                variant=Variant.PRODUCTION,
                rollout=None,
                step=0,
                unit=name[-32:],
                predicted=predicted,
                label=label,
                confidence=sure,
                source=LabelSource.GROUND_TRUTH,
                sampling_probability=1.0,
                predicted_at=at,
                labelled_at=at + self._delay,
            )
            for name, predicted, label, sure, at in rows
        ]

    def _labelled_by(self, now: datetime) -> list[Outcome]:
        """Outcomes whose labels have become known, in order; the champion's own are kept at hand."""
        come = [outcome for outcome in self._unlabelled if outcome.labelled_at <= now]
        self._unlabelled = [outcome for outcome in self._unlabelled if outcome.labelled_at > now]
        self._known += [outcome for outcome in come if outcome.version == self._champion.version.id]
        return come

    def _judge(self, traffic: Traffic) -> DriftReport:
        monitor = self._settings.monitor
        return judge_window(
            self._champion.baseline,
            traffic,
            model=MODEL,
            version=self._champion.version.id,
            settings=monitor,
            alpha=alarm_budget(monitor).window_alpha,
            outcomes=self._known,
            labelled=self._refit(),
        )

    def _refit(self) -> LabelledRows | None:
        """The newest labelled answers; labels come in the order of the answers, so they are the first ones known."""
        known = len(self._known)
        if known == 0:
            return None
        newest = slice(max(known - MAX_REFIT_LABELS, 0), known)
        answered = self._answered
        return LabelledRows(
            signals={name: values[newest] for name, values in answered.signals.items()},
            correct=answered.correct[newest],
            weights=np.ones(len(answered.correct[newest])),
        )

    def _sight(self, traffic: Traffic, report: DriftReport, times: Sequence[datetime]) -> Sighting:
        champion, progress = self._champion, self._progress
        rng = random_for(self._settings.monitor.seed, champion.version.name, progress.seen)
        scores = detector_scores(champion.baseline, traffic.predicted, traffic.signals)
        alarms = champion.detector.update(scores, rng, _seconds(times))
        alarm = None
        if alarms:
            first = alarms[0]
            position = progress.seen + first.index
            alarm = SequentialAlarm(
                n_seen=position + 1,
                signal=first.leading_score,
                log_statistic=first.log_statistic,
                log_threshold=math.log1p(champion.detector.threshold),
                onset_at=self._answered.times[max(position + 1 - first.onset_back, 0)],
                at=times[first.index],
                cycle_learned=first.cycle_learned,
            )
        if report.verdict is Verdict.DRIFT or alarms:
            quiet = 0
        else:
            quiet = progress.quiet + (report.verdict is not Verdict.INCONCLUSIVE)
        seen = StreamPoint(progress.seen + len(traffic), 0, 0)
        self._progress = dataclasses.replace(progress, window=seen, quiet=quiet)
        return Sighting(champion, alarm, (report,), self._progress)


def _seconds(times: Sequence[datetime]) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """Seconds since the epoch, (n,); None for a file of mere dates, which knows no hours."""
    seconds = np.array([time.timestamp() for time in times], dtype=np.int64)
    return None if not (seconds % 86_400).any() else seconds
