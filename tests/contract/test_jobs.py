"""One open job per cause; a job belongs to the newest claim, and whoever lost it is told."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection

from monitoring.core.errors import Conflict, NotFound
from monitoring.core.ledger import audit, jobs
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import JobState, RetrainCause, TrainingJob
from tests.contract.people import NOON, champion
from tests.contract.race import race

LEASE = timedelta(seconds=30)


def ask(
    connection: Connection, cause: RetrainCause = RetrainCause.DRIFT, *, model: str = "support", now: datetime = NOON
) -> TrainingJob:
    return jobs.request(
        connection, model=model, cause=cause, reason="it drifts", request={"alert": "a"}, actor="monitor", now=now
    )


def claim(connection: Connection, owner: str = "one", *, now: datetime = NOON) -> TrainingJob | None:
    return jobs.claim(connection, owner=owner, lasts=LEASE, now=now)


def claimed(connection: Connection, owner: str = "one", *, now: datetime = NOON) -> TrainingJob:
    job = claim(connection, owner, now=now)
    assert job is not None
    return job


def finish(connection: Connection, job: TrainingJob, state: JobState = JobState.SUCCEEDED) -> None:
    jobs.finish(connection, job, state, reason="done", result={"version": "v"}, now=NOON + LEASE)


@pytest.fixture(autouse=True)
def model(ledger: Ledger) -> None:
    """There is a model to retrain."""
    with ledger.begin() as connection:
        champion(connection)


def test_an_unknown_model_cannot_be_retrained(ledger: Ledger) -> None:
    with ledger.begin() as connection, pytest.raises(NotFound, match="known: support"):
        ask(connection, model="suport")


def test_a_cause_has_one_open_job_and_a_refusal_leaves_the_transaction_usable(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        ask(connection)
        with pytest.raises(Conflict, match="already has an open training job for drift"):
            ask(connection)
        manual = ask(connection, RetrainCause.MANUAL)
    with ledger.read() as connection:
        assert jobs.get(connection, manual.id) == manual
        assert len(jobs.find(connection, model="support")) == 2
        assert jobs.find(connection, model="another") == []
        assert jobs.count(connection) == {
            ("support", RetrainCause.DRIFT, JobState.QUEUED): 1,
            ("support", RetrainCause.MANUAL, JobState.QUEUED): 1,
        }


def test_of_many_who_ask_at_once_one_is_served(ledger: Ledger) -> None:
    def request(_: int) -> TrainingJob:
        with ledger.begin() as connection:
            return ask(connection)

    results = race(request, 4)
    assert sum(isinstance(result, TrainingJob) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 3


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_after_the_end_the_cause_may_ask_again(ledger: Ledger, state: JobState) -> None:
    with ledger.begin() as connection:
        ask(connection)
        job = claimed(connection)
        finish(connection, job, state)
        ended = jobs.get(connection, job.id)
        assert (ended.state, ended.result, ended.finished_at) == (state, {"version": "v"}, NOON + LEASE)
        assert ask(connection).id != job.id


def test_the_oldest_job_is_claimed_first_and_by_one_worker(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        later = ask(connection, RetrainCause.MANUAL, now=NOON + LEASE)
        first = ask(connection)
        assert claimed(connection, "one").id == first.id
        assert claimed(connection, "two").id == later.id
        assert claim(connection, "three") is None


def test_workers_that_claim_at_once_never_share_a_job(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        for cause in (RetrainCause.DRIFT, RetrainCause.MANUAL):
            ask(connection, cause)

    def work(number: int) -> TrainingJob | None:
        with ledger.begin() as connection:
            return claim(connection, f"worker {number}")

    found = [job.id for job in race(work, 4) if isinstance(job, TrainingJob)]
    assert len(found) == len(set(found)) == 2


def test_a_heartbeat_keeps_a_job_and_its_absence_loses_it(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        ask(connection)
        mine = claimed(connection, "one")
        assert jobs.heartbeat(connection, mine, lasts=LEASE, now=NOON + LEASE / 2)
        assert claim(connection, "two", now=NOON + LEASE) is None
        taken = claimed(connection, "two", now=NOON + 1.5 * LEASE)
        assert (taken.id, taken.attempts, taken.fence) == (mine.id, 2, mine.fence + 1)
        assert not jobs.heartbeat(connection, mine, lasts=LEASE, now=NOON + 1.5 * LEASE)
        with pytest.raises(Conflict, match="taken over by another worker"):
            finish(connection, mine)
        jobs.release(connection, mine, reason="too late", now=NOON)
        assert jobs.get(connection, mine.id).state is JobState.RUNNING
        finish(connection, taken)
        with pytest.raises(Conflict):
            finish(connection, taken)


@pytest.mark.parametrize(("counted", "attempts"), [(True, 2), (False, 1)])
def test_a_released_job_is_tried_again(ledger: Ledger, counted: bool, attempts: int) -> None:
    with ledger.begin() as connection:
        ask(connection)
        job = claimed(connection)
        jobs.release(connection, job, reason="the machine goes down", now=NOON, counted=counted)
        assert jobs.get(connection, job.id).state is JobState.QUEUED
        again = claimed(connection, "two")
        assert (again.id, again.attempts) == (job.id, attempts)
        assert not jobs.heartbeat(connection, job, lasts=LEASE, now=NOON)


def test_each_change_of_a_job_has_its_event(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        ask(connection)
        jobs.release(connection, claimed(connection), reason="interrupted", now=NOON)
        finish(connection, claimed(connection))
        told = [event.action for event in audit.events(connection, subject="support")]
        assert told == ["job:succeeded", "job:claim", "job:queued", "job:claim", "job:request"]
        assert audit.first_broken_link(connection) is None


def test_the_trail_tells_a_lost_lease_from_a_clean_return(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        ask(connection)
        jobs.release(connection, claimed(connection), reason="its worker was stopped", now=NOON, counted=False)
        jobs.release(connection, claimed(connection), reason="attempt 1 of 3 failed", now=NOON)
        claimed(connection)
        claimed(connection, "two", now=NOON + 2 * LEASE)
        told = [event.reason for event in audit.events(connection, subject="support") if event.action == "job:claim"]
    again = "it was back in the queue; a worker starts it anew"
    assert told == ["its worker's lease ran out; another goes on", again, again, "a worker starts it"]


def test_the_job_that_ended_last_is_found(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        assert jobs.last_finished(connection, "support") is None
        ask(connection)
        first = claimed(connection)
        ask(connection, RetrainCause.MANUAL)
        second = claimed(connection, "two")
        finish(connection, second)
        last = jobs.last_finished(connection, "support")
        assert last is not None
        assert last.id == second.id
        jobs.finish(connection, first, JobState.FAILED, reason="r", result={}, now=NOON + 2 * LEASE)
        last = jobs.last_finished(connection, "support")
        assert last is not None
        assert (last.id, last.state) == (first.id, JobState.FAILED)


def test_an_absent_job_is_named(ledger: Ledger) -> None:
    with ledger.read() as connection, pytest.raises(NotFound, match="'absent' does not exist"):
        jobs.get(connection, "absent")
