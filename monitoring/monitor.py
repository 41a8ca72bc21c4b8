"""One tick of watching a model: read what is new, judge it, and write all that follows in one transaction.

The cursor is written with the results, and what is drawn at random depends on the version and the commit alone. So a
tick that dies anywhere is simply done again, with the same result, and two workers on one tick cannot both count.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from datetime import datetime
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection

from monitoring.baseline import Baseline
from monitoring.budget import alarm_budget
from monitoring.conclusions import conclude, decide_retraining, stand
from monitoring.core.errors import Conflict, NotReady
from monitoring.core.ledger import baselines, labels, profiles, rollout_evidence, verdicts, versions
from monitoring.core.ledger.baselines import BaselineChange
from monitoring.core.ledger.database import Ledger
from monitoring.core.ledger.profiles import KeptProfile
from monitoring.core.ledger.rollout_evidence import Exposure
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.registry import Registry
from monitoring.core.settings import Settings
from monitoring.core.types import DriftReport, ModelState, ModelVersion, Outcome
from monitoring.episodes import DRIFT
from monitoring.in_force import load_baseline
from monitoring.intake import TICK_COLUMNS, exposures_of
from monitoring.labelling import join_feedback
from monitoring.policy import Decision
from monitoring.profiles import pack
from monitoring.progress import Progress
from monitoring.rebaseline import reign_of
from monitoring.sighting import Champion, Sighting, look
from monitoring.stats.sequential import EDetector

MAX_ROWS = 50_000


@dataclass(frozen=True)
class TickSummary:
    """What one tick did; `caught_up`: nothing more waits in the log or the feedback."""

    model: str
    version: str | None
    rows: int
    outcomes: int
    reports: tuple[DriftReport, ...]
    fired: tuple[str, ...]
    resolved: tuple[str, ...]
    decision: Decision | None
    caught_up: bool


@dataclass(frozen=True)
class Intake:
    """What one tick reads: the model's new rows, the outcomes and exposures that they give, and the new places."""

    rows: pa.Table
    outcomes: list[Outcome]
    exposures: list[Exposure]
    commit: int
    feedback: int
    caught_up: bool


class Monitor:
    """Watches models; keeps nothing but the baselines that it has loaded."""

    def __init__(self, *, ledger: Ledger, log: PredictionLog, registry: Registry, settings: Settings) -> None:
        self._ledger = ledger
        self._log = log
        self._registry = registry
        self._settings = settings
        self._budget = alarm_budget(settings.monitor)
        self._baselines: dict[str, tuple[tuple[str, str | None], Baseline]] = {}

    def watch(self, model: str, *, now: datetime) -> list[TickSummary]:
        """Tick until all that is in the log and the feedback by now is judged; a summary for each tick.

        Raises NotFound for an unknown model, BrokenBundle for a champion without a readable baseline, and Conflict
        where another worker or a promotion was faster: the next call goes on from there.
        """
        summaries = [self._tick(model, now)]
        while not summaries[-1].caught_up:
            summaries.append(self._tick(model, now))
        return summaries

    def retrain_on_schedule(self, model: str, *, now: datetime) -> Decision:
        """The cron schedule asks for a retraining: request it unless the policy holds it back. Raises NotReady."""
        with self._ledger.begin() as connection:
            production = versions.model_state(connection, model).production
            if production is None:
                raise NotReady(f"{model} has no production version to retrain")
            champion = versions.get(connection, production)
            return decide_retraining(connection, champion, None, self._settings, schedule_due=True, now=now)

    def _tick(self, model: str, now: datetime) -> TickSummary:
        with self._ledger.read() as connection:
            state = versions.model_state(connection, model)
            before = Progress.load(connection, model)
            version = None if state.production is None else versions.get(connection, state.production)
            change = None if version is None else baselines.newest(connection, version.id)
            detector = None if version is None else verdicts.load_detector(connection, version.id)
        taken = self._take_in(model, before)
        sighting = None if version is None else self._look(state, version, change, detector, before, taken)
        with self._ledger.begin() as connection:
            if (versions.model_state(connection, model), Progress.load(connection, model)) != (state, before):
                raise Conflict(f"{model} was watched or promoted by another process meanwhile: the next tick goes on")
            if version is not None and baselines.newest(connection, version.id) != change:
                raise Conflict(f"{version.name} was given another baseline meanwhile: the next tick goes on with that")
            return self._write(connection, model, before, taken, sighting, now)

    def _write(
        self,
        connection: Connection,
        model: str,
        before: Progress,
        taken: Intake,
        sighting: Sighting | None,
        now: datetime,
    ) -> TickSummary:
        """All that the tick leaves behind."""
        progress = dataclasses.replace(before, commit=taken.commit, feedback=taken.feedback)
        outcomes = labels.add_outcomes(connection, taken.outcomes)
        rollout_evidence.add_exposures(connection, taken.exposures)
        changes, decision = [stand(connection, model, now=now)], None
        if sighting is not None:
            progress = sighting.progress
            _keep_sighting(connection, sighting, now)
            concluded, decision = conclude(connection, sighting, self._settings, now=now)
            changes.append(concluded)
            if any(firing.name == DRIFT for firing in concluded.fire):
                progress = dataclasses.replace(progress, quiet=0)
        progress.save(connection, model)
        return TickSummary(
            model=model,
            version=None if sighting is None else sighting.champion.version.name,
            rows=len(taken.rows),
            outcomes=outcomes,
            reports=() if sighting is None else sighting.reports,
            fired=tuple(firing.name for change in changes for firing in change.fire),
            resolved=tuple(resolving.alert.name for change in changes for resolving in change.resolve),
            decision=decision,
            caught_up=taken.caught_up,
        )

    def _take_in(self, model: str, before: Progress) -> Intake:
        """Read what came since, in bounded bites."""
        newest = self._log.last_commit()
        until = self._end_of_bite(model, before.commit, newest)
        rows = self._log.read(model=model, after_commit=before.commit, until_commit=until, columns=TICK_COLUMNS)
        joined = join_feedback(
            self._ledger,
            self._log,
            model=model,
            new_rows=rows,
            after=before.feedback,
            slices=self._settings.monitor.slices,
        )
        return Intake(
            rows=rows,
            outcomes=joined.outcomes,
            exposures=exposures_of(rows, slow_ms=self._settings.rollout.latency_slo_ms),
            commit=until,
            feedback=joined.feedback,
            caught_up=until == newest and not joined.more,
        )

    def _end_of_bite(self, model: str, after: int, newest: int) -> int:
        """The commit up to which the model has no more than MAX_ROWS new rows, and at least one commit with some."""
        if newest - after <= 1:
            return newest
        rows = self._log.read(model=model, after_commit=after, until_commit=newest, columns=["commit"])
        commits, sizes = np.unique(rows["commit"].to_numpy(), return_counts=True)
        fitting = int(np.searchsorted(np.cumsum(sizes), MAX_ROWS, side="right"))
        return newest if fitting >= len(commits) else int(commits[max(fitting, 1) - 1])

    def _look(
        self,
        state: ModelState,
        version: ModelVersion,
        change: BaselineChange | None,
        detector: bytes | None,
        before: Progress,
        taken: Intake,
    ) -> Sighting:
        """Show the champion's new rows to its detector and its windows; a new reign starts both anew."""
        reign = reign_of(version, state, change)
        baseline = self._baseline(version, change)
        kept = None if before.reign != reign or detector is None else _read_detector(detector)
        if kept is None or kept.threshold != self._budget.sequential_threshold:
            kept = EDetector.start(baseline.edges, baseline.scores(), self._budget.sequential_threshold, baseline.week)
        usual_since = reign.since if change is None else change.since
        return look(
            Champion(version, reign, state.promoted_at or version.created_at, usual_since, baseline, kept),
            taken.rows,
            dataclasses.replace(before.under(reign), commit=taken.commit, feedback=taken.feedback),
            ledger=self._ledger,
            log=self._log,
            settings=self._settings,
            new_outcomes=[outcome for outcome in taken.outcomes if outcome.version == version.id],
        )

    def _baseline(self, version: ModelVersion, change: BaselineChange | None) -> Baseline:
        wanted = version.id, None if change is None else change.id
        known, baseline = self._baselines.get(version.model, (None, None))
        if baseline is None or known != wanted:
            baseline = load_baseline(self._registry, version, change)
            self._baselines[version.model] = (wanted, baseline)
        return baseline


def _keep_sighting(connection: Connection, sighting: Sighting, now: datetime) -> None:
    for report, profile in zip(sighting.reports, sighting.profiles, strict=True):
        verdicts.save_report(connection, report)
        profiles.save(
            connection,
            KeptProfile(
                model=report.model,
                version=report.version,
                baseline=profile.spec.digest,
                window_start=report.window_start,
                window_end=report.window_end,
                windows=1,
                n=profile.n,
                state=pack(profile),
            ),
        )
    champion = sighting.champion
    if sighting.reports:
        verdicts.save_slice_memory(
            connection,
            version=champion.version.id,
            state=sighting.memory.to_bytes(),
            started_at=champion.reign.since,
            now=now,
        )
    verdicts.save_detector(
        connection,
        model=champion.version.model,
        version=champion.version.id,
        state=_detector_bytes(champion.detector),
        started_at=champion.reign.since,
        now=now,
    )


def _detector_bytes(detector: EDetector) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **detector.to_arrays())
    return buffer.getvalue()


def _read_detector(state: bytes) -> EDetector | None:
    """The detector as it was kept; None, so that it starts anew, if another version of Leeway kept it."""
    try:
        with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
            return EDetector.from_arrays(arrays)
    except (ValueError, KeyError, BadZipFile):
        return None
