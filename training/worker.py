"""The worker: claims training jobs, and keeps their leases alive while a child process trains.

The child's standard input is a pipe that only the worker holds: when the worker dies, however it dies, the pipe closes
and the child ends. The child registers its result in the transaction that ends the job, under the fence of this claim:
so a result counts once, whoever is killed when.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from monitoring.core.errors import Conflict
from monitoring.core.ledger import jobs
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import Settings
from monitoring.core.types import Clock, JobState, TrainingJob

HEARTBEATS_PER_LEASE = 3
LOOK_SECONDS = 0.2
IDLE_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """One worker process. `owner` names it in the ledger; `stop` ends it, giving its job back to the queue."""

    settings: Settings
    ledger: Ledger
    owner: str
    clock: Clock
    stop: threading.Event

    def work(self, *, drain: bool = False) -> None:
        """Do jobs until stopped; with `drain`, until none waits."""
        while not self.stop.is_set():
            try:
                if self._next_job():
                    continue
            except OperationalError:  # the database is busy or away: a job in hand is claimed again when its lease ends
                log.warning("the ledger does not answer; trying again", exc_info=True)
            else:
                if drain:
                    return
            self.stop.wait(IDLE_SECONDS)

    def _next_job(self) -> bool:
        """Claim a job and see it through; False if none waits."""
        with self.ledger.begin() as connection:
            job = jobs.claim(connection, owner=self.owner, lasts=self._lease, now=self.clock())
        if job is not None:
            self.tend(job)
        return job is not None

    def tend(self, job: TrainingJob) -> None:
        """See one claimed job through: train in a child, renew the lease, settle what a dead child left behind."""
        if job.attempts > self.settings.retrain.max_attempts:
            self._settle(job, "its workers died before they could say why")
            return
        log.info("%s: training, attempt %d: %s", job.model, job.attempts, job.reason)
        with tempfile.TemporaryDirectory(prefix="leeway-worker-") as scratch:
            child = self._start(job, scratch)
            try:
                ended = self._watch(job, child)
            finally:
                child.kill()
                child.communicate()
        if ended:
            self._settle(job, _how_it_ended(child.returncode))
        elif self.stop.is_set():
            with self.ledger.begin() as connection:
                jobs.release(connection, job, reason="its worker was stopped", counted=False, now=self.clock())
        self._tell(job)

    def _tell(self, job: TrainingJob) -> None:
        """Say what has become of the job, as the ledger has it: the child may have been killed after it had its say."""
        with self.ledger.read() as connection:
            now = jobs.get(connection, job.id)
        if now.fence != job.fence:
            log.warning("%s: another worker has taken over, since this one's lease ran out", job.model)
        elif now.state is JobState.QUEUED:
            log.info("%s: back in the queue; `leeway audit --subject %s` says why", job.model, job.model)
        else:
            level = logging.INFO if now.state is JobState.SUCCEEDED else logging.ERROR
            log.log(level, "%s: training %s: %s", job.model, now.state, now.result.get("reason"))

    def _start(self, job: TrainingJob, scratch: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "training.child", job.id, str(job.fence)],
            stdin=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": scratch},  # what a killed child leaves behind goes with the folder
            start_new_session=True,  # Ctrl-C reaches the worker alone, which then decides
        )
        assert child.stdin is not None
        with suppress(BrokenPipeError):  # a child that died at once is seen by its return code
            child.stdin.write(self.settings.model_dump_json() + "\n")
            child.stdin.flush()
        return child

    def _watch(self, job: TrainingJob, child: subprocess.Popen[str]) -> bool:
        """Whether the child ended by itself; False if the worker is stopped or the job is no longer its own."""
        due = self.clock()
        while child.poll() is None:
            if self.stop.is_set():
                return False
            if self.clock() >= due:
                if not self._heartbeat(job):
                    return False
                due = self.clock() + self._lease / HEARTBEATS_PER_LEASE
            with suppress(subprocess.TimeoutExpired):
                child.wait(LOOK_SECONDS)
        return True

    def _heartbeat(self, job: TrainingJob) -> bool:
        try:
            with self.ledger.begin() as connection:
                return jobs.heartbeat(connection, job, lasts=self._lease, now=self.clock())
        except OperationalError:  # the database is busy: the lease has room for another try
            log.warning("%s: heartbeat missed", job.model, exc_info=True)
            return True

    def _settle(self, job: TrainingJob, reason: str) -> None:
        with self.ledger.begin() as connection:
            settle(connection, job, reason, max_attempts=self.settings.retrain.max_attempts, now=self.clock())

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self.settings.retrain.lease_seconds)


def settle(connection: Connection, job: TrainingJob, reason: str, *, max_attempts: int, now: datetime) -> None:
    """After an attempt that failed: back into the queue, or FAILED when the attempts are used up.

    Nothing happens where the job has ended already or belongs to another claim.
    """
    if job.attempts < max_attempts:
        jobs.release(connection, job, reason=f"attempt {job.attempts} of {max_attempts} failed: {reason}", now=now)
        return
    with suppress(Conflict):
        given_up = f"given up after {max_attempts} attempts: {reason}"
        jobs.finish(connection, job, JobState.FAILED, reason=given_up, result={"reason": given_up}, now=now)


def _how_it_ended(returncode: int) -> str:
    if returncode < 0:
        return f"the training process was killed by signal {-returncode} (out of memory?)"
    return f"the training process ended with code {returncode}, without a result"
