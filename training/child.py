"""The process that trains for a worker: `python -m training.child JOB FENCE`, settings as JSON on standard input."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress

from sqlalchemy import Connection

from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.errors import Conflict, LeewayError
from monitoring.core.ledger import audit, jobs
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import Settings
from monitoring.core.types import JobState, ModelVersion, RetrainCause, Stage, TrainingJob, utc_now
from training.extras import require_training
from training.progress import Progress, log_own_steps
from training.worker import settle

ORPHANED = 3
NICENESS = 10

log = logging.getLogger("training")


def main() -> None:
    """Train for the job in the arguments; what went wrong is written to the job itself."""
    log_own_steps()
    settings = Settings.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    os.nice(NICENESS)  # serving comes first
    ledger = open_ledger(settings)
    with ledger.read() as connection:
        job = jobs.get(connection, sys.argv[1])
    if job.fence != int(sys.argv[2]):
        return
    try:
        _train(job, settings, ledger)
    except LeewayError as error:  # another attempt would meet the same
        with suppress(Conflict), ledger.begin() as connection:
            reason = error.message
            jobs.finish(connection, job, JobState.FAILED, reason=reason, result={"reason": reason}, now=utc_now())
    except Exception as error:
        log.exception("%s: training failed", job.model)
        reason = f"{type(error).__name__}: {error}"
        with ledger.begin() as connection:
            settle(connection, job, reason, max_attempts=settings.retrain.max_attempts, now=utc_now())


def _train(job: TrainingJob, settings: Settings, ledger: Ledger) -> None:
    from training.plan import Workshop

    workshop = Workshop(settings, ledger, open_registry(settings, ledger), utc_now, _log_step(job))

    def conclude(connection: Connection, version: ModelVersion) -> None:
        gates = version.evidence["gates"]
        failed = [gate["name"] for gate in gates if not gate["passed"]]
        (registered,) = audit.events(connection, subject=version.name, limit=1)
        outcome = outcome_of(version, registered.reason, needed=settings.retrain.new_class_examples)
        result = {
            "version": version.id,
            "name": version.name,
            "stage": version.stage,
            "gates_passed": not failed,
            "failed_gates": failed,
            "reason": outcome,
        }
        jobs.finish(connection, job, JobState.SUCCEEDED, reason=outcome, result=result, now=utc_now())

    if job.cause is RetrainCause.CALIBRATION:  # trains nothing, so it needs no training library
        from training.recalibrate import plan_recalibration, recalibrate

        recalibrate(plan_recalibration(job, workshop), workshop, actor="worker", conclude=conclude)
    else:
        require_training()
        from training.pipeline import run
        from training.plan import plan_retraining

        run(plan_retraining(job, workshop), workshop, actor="worker", conclude=conclude)


def outcome_of(version: ModelVersion, decided: str, *, needed: int) -> str:
    """What came of a retraining, in one line; `decided` is why the version has its stage.

    A class that still has too few examples is named with their number, beside the `needed` one.
    """
    failed = [f"{gate['name']}: {gate['reason']}" for gate in version.evidence["gates"] if not gate["passed"]]
    waiting = (version.lineage.get("classes_waiting") or {}).items()
    verdict = "; ".join(
        [
            "; ".join(failed) or decided,
            *(f"{label}: {count} of {needed} examples, it waits" for label, count in waiting),
        ]
    )
    waits = version.stage is Stage.AWAITING_APPROVAL
    return f"{version.name} {'waits for approval' if waits else version.stage.replace('_', ' ')}: {verdict}"


def _log_step(job: TrainingJob) -> Progress:
    def report(step: str, share: float) -> None:
        if share == 0.0:
            log.info("%s: %s begins", job.model, step)

    return report


def _end_with_the_worker() -> None:
    sys.stdin.read()  # returns when the worker closes the pipe or is gone
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()
