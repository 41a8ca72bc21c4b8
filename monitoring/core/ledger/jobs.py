"""Training jobs: asked for by the monitor or a person, claimed by a worker under a lease that its heartbeat renews."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from monitoring.core.errors import Conflict, NotFound
from monitoring.core.ids import new_id
from monitoring.core.ledger import audit, versions
from monitoring.core.tables import jobs
from monitoring.core.types import JobState, RetrainCause, TrainingJob


def request(
    connection: Connection,
    *,
    model: str,
    cause: RetrainCause,
    reason: str,
    request: Mapping[str, Any],
    actor: str,
    now: datetime,
) -> TrainingJob:
    """Ask for a retraining. Raises Conflict while a job for the same model and cause is open."""
    versions.model_state(connection, model)
    job_id = new_id()
    try:
        with connection.begin_nested():
            connection.execute(
                insert(jobs).values(
                    id=job_id,
                    model=model,
                    cause=cause,
                    state=JobState.QUEUED,
                    reason=reason,
                    request=dict(request),
                    result={},
                    attempts=0,
                    fence=0,
                    created_at=now,
                )
            )
    except IntegrityError as error:
        raise Conflict(f"{model} already has an open training job for {cause}", field="cause") from error
    audit.record(
        connection,
        at=now,
        actor=actor,
        action="job:request",
        subject=model,
        reason=reason,
        detail={"job": job_id, "cause": cause},
    )
    return get(connection, job_id)


def claim(connection: Connection, *, owner: str, lasts: timedelta, now: datetime) -> TrainingJob | None:
    """Take the oldest queued job, or a running one whose worker's lease ran out; None if there is none."""
    abandoned = (jobs.c.state == JobState.RUNNING) & (jobs.c.lease_until <= now)
    query = select(jobs).where(or_(jobs.c.state == JobState.QUEUED, abandoned)).order_by(jobs.c.created_at).limit(1)
    row = connection.execute(query.with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    values = {"owner": owner, "fence": row.fence + 1, "attempts": row.attempts + 1, "lease_until": now + lasts}
    if row.state == JobState.RUNNING:
        reason = "its worker's lease ran out; another goes on"
    else:
        reason = "a worker starts it" if row.fence == 0 else "it was back in the queue; a worker starts it anew"
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(state=JobState.RUNNING, **values))
    audit.record(
        connection,
        at=now,
        actor=owner,
        action="job:claim",
        subject=row.model,
        reason=reason,
        detail={"job": row.id, "attempt": row.attempts + 1},
    )
    return get(connection, row.id)


def heartbeat(connection: Connection, job: TrainingJob, *, lasts: timedelta, now: datetime) -> bool:
    """Renew the lease; False if the job was taken over, and the worker must stop."""
    kept = connection.execute(
        update(jobs)
        .where(jobs.c.id == job.id, jobs.c.fence == job.fence, jobs.c.state == JobState.RUNNING)
        .values(lease_until=now + lasts)
    )
    return kept.rowcount == 1


def finish(
    connection: Connection,
    job: TrainingJob,
    state: JobState,
    *,
    reason: str,
    result: Mapping[str, Any],
    now: datetime,
) -> None:
    """End a job (SUCCEEDED, FAILED). Raises Conflict if it was taken over: its result must not count twice."""
    done = connection.execute(
        update(jobs)
        .where(jobs.c.id == job.id, jobs.c.fence == job.fence, jobs.c.state == JobState.RUNNING)
        .values(state=state, result=dict(result), finished_at=now)
    )
    if done.rowcount != 1:
        raise Conflict(f"training job {job.id} was taken over by another worker")
    _audit_end(connection, job, state, reason, now)


def release(connection: Connection, job: TrainingJob, *, reason: str, now: datetime, counted: bool = True) -> None:
    """Put a job back into the queue for another attempt; one that was only interrupted need not be counted."""
    attempts = job.attempts if counted else job.attempts - 1
    released = connection.execute(
        update(jobs)
        .where(jobs.c.id == job.id, jobs.c.fence == job.fence, jobs.c.state == JobState.RUNNING)
        .values(state=JobState.QUEUED, owner=None, lease_until=None, attempts=attempts)
    )
    if released.rowcount:
        _audit_end(connection, job, JobState.QUEUED, reason, now)


def get(connection: Connection, job_id: str) -> TrainingJob:
    """One job. Raises NotFound."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if row is None:
        raise NotFound(f"training job {job_id!r} does not exist", field="job")
    return _job(row)


def find(connection: Connection, *, model: str | None = None, limit: int = 100) -> list[TrainingJob]:
    """Jobs, newest first."""
    query = select(jobs).order_by(jobs.c.created_at.desc()).limit(limit)
    if model is not None:
        query = query.where(jobs.c.model == model)
    return [_job(row) for row in connection.execute(query)]


def last_finished(connection: Connection, model: str) -> TrainingJob | None:
    """The model's job that ended last, whatever came of it."""
    ended = select(jobs).where(jobs.c.model == model, jobs.c.finished_at.is_not(None))
    row = connection.execute(ended.order_by(jobs.c.finished_at.desc()).limit(1)).first()
    return None if row is None else _job(row)


def count(connection: Connection) -> dict[tuple[str, RetrainCause, JobState], int]:
    """Jobs so far by model, cause and state."""
    kind = (jobs.c.model, jobs.c.cause, jobs.c.state)
    counts = connection.execute(select(*kind, func.count()).group_by(*kind))
    return {(row[0], RetrainCause(row[1]), JobState(row[2])): int(row[3]) for row in counts}


def _audit_end(connection: Connection, job: TrainingJob, state: JobState, reason: str, now: datetime) -> None:
    audit.record(
        connection,
        at=now,
        actor="worker",
        action=f"job:{state}",
        subject=job.model,
        reason=reason,
        detail={"job": job.id},
    )


def _job(row: Row[Any]) -> TrainingJob:
    names = ("id", "model", "reason", "request", "result", "attempts", "fence", "created_at", "finished_at")
    values = {name: row._mapping[name] for name in names}
    return TrainingJob(**values, cause=RetrainCause(row.cause), state=JobState(row.state))
