"""The rollout controller: a reconcile loop that one serving process runs at a time, under a lease.

Each pass reads, decides with pure functions, and writes each decision as one transaction that re-checks lease and
fence. A crash between any two of them leaves a state from which the next pass goes on.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from monitoring.core.errors import Conflict
from monitoring.core.ledger import alerts, approvals, labels, leases, replicas, rollout_evidence, rollouts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import Settings
from monitoring.core.types import Clock, Rollout, RolloutPhase, Severity, Stage
from service import watch
from service.analysis import Reading, read_rollout, recalibration_of
from service.rollout import Decision, Step, decide

LEASE = "controller"
LEASE_LASTS = timedelta(seconds=15)
log = logging.getLogger(__name__)


class Controller:
    """Drives rollouts while it holds the lease; `reconcile` is one pass."""

    def __init__(self, ledger: Ledger, settings: Settings, *, owner: str, clock: Clock) -> None:
        self._ledger = ledger
        self._settings = settings.rollout
        self._owner = owner
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)

    def start(self) -> None:
        """Begin reconciling in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End after the pass under way, and let another process take over at once."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        try:
            with self._ledger.begin() as connection:
                leases.release(connection, LEASE, owner=self._owner, now=self._clock())
        except SQLAlchemyError as error:  # the lease runs out by itself
            log.warning("controller: the ledger was away while stopping: %s", error)

    def reconcile(self) -> None:
        """One pass over all models; does nothing while another process holds the lease."""
        now = self._clock()
        with self._ledger.begin() as connection:
            fence = leases.acquire(connection, LEASE, owner=self._owner, lasts=LEASE_LASTS, now=now)
        if fence is None:
            return
        with _outlived("starting approved versions"):
            self._start_approved(fence)
        for rollout in self._running():
            with _outlived(f"the rollout of {rollout.model}"):
                self._judge(rollout, fence)
        for model in self._watched():
            with _outlived(f"the watch over {model}"):
                self._watch(model, fence)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with _outlived("a pass"):
                self.reconcile()
            self._stopping.wait(self._settings.controller_seconds)

    def _start_approved(self, fence: int) -> None:
        now = self._clock()
        with self._ledger.begin() as connection:
            self._check_lease(connection, fence, now)
            approvals.expire(connection, now=now)
            for version in versions.find(connection, stages={Stage.APPROVED}):
                if rollouts.open_rollout(connection, version.model) is not None:
                    continue
                if replicas.all_have_loaded(connection, version.id, now=now):
                    rollouts.start(connection, version, salt=secrets.token_hex(8), now=now)

    def _running(self) -> list[Rollout]:
        with self._ledger.read() as connection:
            return [item for item in rollouts.open_rollouts(connection) if item.phase is RolloutPhase.RUNNING]

    def _watched(self) -> list[str]:
        """Models after a promotion, and those whose rollback has left its alert open."""
        with self._ledger.read() as connection:
            watched = {state.model for state in versions.model_states(connection) if state.watch_until is not None}
            raised = {alert.model for alert in alerts.find(connection, open_only=True) if alert.name == watch.ALERT}
        return sorted(watched | raised)

    def _judge(self, rollout: Rollout, fence: int) -> None:
        with self._ledger.read() as connection:
            exposures = rollout_evidence.find_exposures(connection, rollout.id)
            outcomes = labels.find_outcomes(connection, rollout=rollout.id)
            candidate = versions.get(connection, rollout.candidate)
        now = self._clock()
        reading = read_rollout(rollout, exposures, outcomes, settings=self._settings, now=now)
        proof = recalibration_of(candidate, rollout.champion)
        decision = decide(rollout, reading, settings=self._settings, now=now, recalibration=proof)
        with self._ledger.begin() as connection:
            self._check_lease(connection, fence, now)
            self._apply(connection, rollout, reading, decision, now)
        if decision.step is not Step.HOLD:
            log.info("rollout of %s: %s: %s", rollout.model, decision.step, decision.reason)

    def _apply(
        self, connection: Connection, rollout: Rollout, reading: Reading, decision: Decision, now: datetime
    ) -> None:
        rollout = rollouts.record_analysis(connection, rollout, reading.as_json(), decision.reason)
        if decision.step is Step.ADVANCE:
            rollouts.advance(
                connection, rollout, step=decision.index, share=decision.share, reason=decision.reason, now=now
            )
        elif decision.step is Step.PROMOTE:
            lasts = timedelta(hours=self._settings.watch_hours)
            rollouts.promote(
                connection, rollout, actor=rollouts.CONTROLLER, reason=decision.reason, watch=lasts, now=now
            )
        elif decision.step is Step.ABORT:
            rollouts.abort(connection, rollout, actor=rollouts.CONTROLLER, reason=decision.reason, now=now)
        elif decision.step is Step.PAUSE:
            rollouts.pause(connection, rollout, reason=decision.reason, now=now)
            alerts.fire(
                connection,
                model=rollout.model,
                version=rollout.candidate,
                name="rollout_inconclusive",
                severity=Severity.WARNING,
                summary=f"The rollout of {rollout.model} is paused and asks for a person: {decision.reason}",
                detail={"about": rollout.id, "step": rollout.step, "share": rollout.share},
                now=now,
            )

    def _watch(self, model: str, fence: int) -> None:
        now = self._clock()
        with self._ledger.read() as connection:
            state = versions.model_state(connection, model)
            reading = watch.read_watch(connection, state, settings=self._settings, now=now)
        with self._ledger.begin() as connection:
            self._check_lease(connection, fence, now)
            watch.keep_watch(connection, model, reading, now=now)

    def _check_lease(self, connection: Connection, fence: int, now: datetime) -> None:
        if not leases.holds(connection, LEASE, owner=self._owner, fence=fence, now=now):
            raise Conflict("the controller's lease was lost to another process")


@contextmanager
def _outlived(what: str) -> Iterator[None]:
    """Keep trouble with one thing from the others; the next pass tries again."""
    try:
        yield
    except Conflict as conflict:  # somebody else acted first
        log.info("controller: %s: %s", what, conflict.message)
    except Exception:
        log.exception("controller: %s failed", what)
