"""The watching of one model, replayed: the parts that judge live traffic, on a ledger in memory, at any time of day."""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

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
from monitoring.history import Asked
from monitoring.intake import Reign, StreamPoint
from monitoring.policy import Action, Decision
from monitoring.progress import Progress
from monitoring.sighting import MAX_REFIT_LABELS, Champion, Sighting, random_for, suspicious
from monitoring.signals import Traffic, joined, picked, traffic_of
from monitoring.stats.sequential import EDetector
from monitoring.weekly import MOST_ROWS, MOST_WEEKS, WEEK, weekly_of

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
    """What the present champion has answered so far, in order: times, signals in parts.

    `recent`: the windows whose hours or week may still be asked for, each with the place of its first answer.
    """

    times: list[datetime] = field(default_factory=list)
    signals: list[dict[str, Floats]] = field(default_factory=list)
    recent: list[tuple[int, Traffic]] = field(default_factory=list)

    def add(self, traffic: Traffic, times: Sequence[datetime]) -> None:
        """Take in one window."""
        forgotten = traffic.start - (MOST_WEEKS + 1) * WEEK
        self.recent = [(first, part) for first, part in self.recent if part.end > forgotten]
        self.recent.append((len(self.times), traffic))
        self.times += times
        self.signals.append({name: traffic.signals[name] for name in SIGNALS})

    def within(self, rng: np.random.Generator, start: datetime, end: datetime) -> Traffic | None:
        """The answers from `start` until before `end`, MOST_ROWS of more at random; None where there are none."""
        places = np.arange(bisect_left(self.times, start), bisect_left(self.times, end))
        if len(places) > MOST_ROWS:
            places = np.sort(rng.choice(places, MOST_ROWS, replace=False))
        own = [(part, places[(first <= places) & (places < first + len(part))] - first) for first, part in self.recent]
        parts = [picked(part, rows) for part, rows in own if len(rows)]
        return joined(parts) if parts else None

    def at(self, places: Sequence[int]) -> dict[str, Floats]:
        """The signals of the answers at these places."""
        self.signals = [{name: np.concatenate([part[name] for part in self.signals]) for name in SIGNALS}]
        return {name: values[list(places)] for name, values in self.signals[0].items()}


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
        self._champion = Champion(version, Reign(version.id, now), now, now, baseline, detector)
        self._progress = Progress()
        self._answered = Answered()
        self._known = []
        return version

    @property
    def champion(self) -> Champion:
        """The version that answers now."""
        return self._champion

    def show(
        self,
        texts: Sequence[str],
        truth: Sequence[str],
        times: Sequence[datetime],
        asked: Asked,
        *,
        start: datetime,
        end: datetime,
    ) -> tuple[Sight, Predictions]:
        """Let the champion answer one window, judge it as of `end`, and act on it; only `asked` rows get a label."""
        predictions = self._score(self._bundle, texts)
        seen = len(self._answered.times)
        ids = [f"{self._champion.version.name}:{seen + row}" for row in range(len(texts))]
        traffic = traffic_of(predictions, self._bundle.config.labels, ids=ids, texts=texts, start=start, end=end)
        self._answered.add(traffic, times)
        self._unlabelled += self._outcomes(traffic, truth, times, asked, seen)
        with self._ledger.begin() as connection:
            labels.add_outcomes(connection, self._labelled_by(end))
        report = self._judge(traffic, seen)
        sighting = self._sight(traffic, report, times)
        with self._ledger.begin() as connection:
            changes, decision = conclude(connection, sighting, self._settings, now=end)
            wanted = decision.action in (Action.RETRAIN, Action.RECALIBRATE)
            job = jobs.claim(connection, owner=ACTOR, lasts=LEASE, now=end) if wanted else None
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

    def _outcomes(
        self, traffic: Traffic, truth: Sequence[str], times: Sequence[datetime], asked: Asked, seen: int
    ) -> Iterator[Outcome]:
        """What labels will say of the window's answers, each as soon as its delay is over."""
        source = LabelSource.GROUND_TRUTH if asked.probability == 1.0 else LabelSource.RANDOM_SAMPLE
        confidence = traffic.signals["confidence"]
        for row in np.flatnonzero(asked.rows).tolist():
            name = traffic.ids[row]
            yield Outcome(
                prediction_id=name,
                model=MODEL,
                version=self._champion.version.id,
                variant=Variant.PRODUCTION,
                rollout=None,
                step=seen + row,
                unit=name[-32:],
                predicted=str(traffic.predicted[row]),
                label=truth[row],
                confidence=float(confidence[row]),
                source=source,
                sampling_probability=asked.probability,
                predicted_at=times[row],
                labelled_at=times[row] + self._delay,
            )

    def _labelled_by(self, now: datetime) -> list[Outcome]:
        """Outcomes whose labels have become known, in order; the champion's own are kept at hand."""
        come = [outcome for outcome in self._unlabelled if outcome.labelled_at <= now]
        self._unlabelled = [outcome for outcome in self._unlabelled if outcome.labelled_at > now]
        self._known += [outcome for outcome in come if outcome.version == self._champion.version.id]
        return come

    def _judge(self, traffic: Traffic, seen: int) -> DriftReport:
        champion, monitor = self._champion, self._settings.monitor
        read_span = partial(self._answered.within, random_for(monitor.seed, champion.version.name, seen))
        return judge_window(
            champion.baseline,
            traffic,
            model=MODEL,
            version=champion.version.id,
            settings=monitor,
            alpha=alarm_budget(monitor).window_alpha,
            outcomes=self._known,
            labelled=self._refit(),
            read_weekly=partial(weekly_of, traffic, champion.reign.since, read_span),
        )

    def _refit(self) -> LabelledRows | None:
        """The newest labelled answers, with their signals; `step` says which answer a label is of."""
        newest = self._known[-MAX_REFIT_LABELS:]
        if not newest:
            return None
        return LabelledRows(
            signals=self._answered.at([outcome.step for outcome in newest]),
            correct=np.array([outcome.correct for outcome in newest], dtype=np.bool_),
            weights=np.array([1.0 / outcome.sampling_probability for outcome in newest]),
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
        suspected = None
        if not alarms and report.verdict is Verdict.DRIFT and suspicious(champion.detector):
            suspected = self._answered.times[max(len(self._answered.times) - champion.detector.onset_back, 0)]
        if report.verdict is Verdict.DRIFT or alarms:
            quiet = 0
        else:
            quiet = progress.quiet + (report.verdict is not Verdict.INCONCLUSIVE)
        seen = StreamPoint(progress.seen + len(traffic), 0, 0)
        self._progress = dataclasses.replace(progress, window=seen, quiet=quiet)
        return Sighting(champion, alarm, (report,), self._progress, suspected_at=suspected)


def _seconds(times: Sequence[datetime]) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """Seconds since the epoch, (n,); None for a file of mere dates, which knows no hours."""
    seconds = np.array([time.timestamp() for time in times], dtype=np.int64)
    return None if not (seconds % 86_400).any() else seconds
