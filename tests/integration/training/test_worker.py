"""Workers and their children, killed when it hurts."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring.core.ledger import audit, jobs, versions
from monitoring.core.types import JobState, ModelVersion, Stage, TrainingJob, utc_now
from tests.integration.training.support import ask_for_retraining, label_traffic, log_traffic
from training.plan import Workshop
from training.worker import Worker

ROOT = Path(__file__).parents[3]
IN_TRAINING = "fine-tune begins"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the worker's child in /proc"),
]


@pytest.fixture
def job(served: Workshop, champion: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    """A retraining that waits, with labelled traffic to learn from."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(ROOT)
    label_traffic(served.ledger, log_traffic(served.settings, champion, 300))
    return ask_for_retraining(served.ledger)


def in_process(served: Workshop, *, later: timedelta = timedelta()) -> Worker:
    """A worker of this process, whose clock runs ahead by `later`."""
    return Worker(served.settings, served.ledger, "second", lambda: utc_now() + later, threading.Event())


@contextmanager
def worker_process() -> Iterator[subprocess.Popen[str]]:
    """`leeway worker --drain` as it runs in earnest."""
    command = "from training.cli import worker; worker(['--drain'])"
    with subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Read the log until it says `words`."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the worker ended without saying {words!r}")


def child_of(process: subprocess.Popen[str]) -> int:
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def current(served: Workshop, job: TrainingJob) -> TrainingJob:
    with served.ledger.read() as connection:
        return jobs.get(connection, job.id)


def candidates(served: Workshop) -> list[ModelVersion]:
    with served.ledger.read() as connection:
        return versions.find(connection, stages={Stage.AWAITING_APPROVAL})


def reasons(served: Workshop) -> list[str]:
    with served.ledger.read() as connection:
        return [event.reason for event in audit.events(connection, subject="support")]


def test_a_job_is_done_from_claim_to_candidate(
    served: Workshop, job: TrainingJob, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        in_process(served).work(drain=True)
    done = current(served, job)
    (candidate,) = candidates(served)
    assert caplog.messages[-1] == f"support: training succeeded: {done.result['reason']}"
    assert done.result["reason"].startswith("support@2 waits for approval: all gates passed")
    assert done.state is JobState.SUCCEEDED
    assert done.result["version"] == candidate.id
    assert done.result["gates_passed"]


def test_a_killed_child_is_followed_by_another_attempt(served: Workshop, job: TrainingJob) -> None:
    with worker_process() as worker:
        wait_for(worker, IN_TRAINING)
        os.kill(child_of(worker), signal.SIGKILL)
        wait_for(worker, "support@2 waits for approval: all gates passed")
        worker.wait()
    done = current(served, job)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)
    assert len(candidates(served)) == 1
    assert any("killed by signal 9" in reason for reason in reasons(served))


def test_a_killed_worker_takes_its_child_along_and_another_goes_on(served: Workshop, job: TrainingJob) -> None:
    with worker_process() as worker:
        wait_for(worker, IN_TRAINING)
        child = os.pidfd_open(child_of(worker))
        worker.kill()
        assert select.select([child], [], [], 60)[0], "the child outlived its worker"
        os.close(child)
    assert current(served, job).state is JobState.RUNNING
    assert candidates(served) == []

    in_process(served, later=timedelta(hours=1)).work(drain=True)
    done = current(served, job)
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)
    assert len(candidates(served)) == 1


def test_a_stopped_worker_gives_its_job_back_uncounted(served: Workshop, job: TrainingJob) -> None:
    with worker_process() as worker:
        wait_for(worker, IN_TRAINING)
        worker.terminate()
        assert worker.wait(timeout=60) == 0
    waiting = current(served, job)
    assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0)
    assert candidates(served) == []


def test_a_job_that_cannot_succeed_fails_at_once_with_its_reason(served: Workshop, champion: ModelVersion) -> None:
    hopeless = ask_for_retraining(served.ledger)
    in_process(served).work(drain=True)
    ended = current(served, hopeless)
    assert (ended.state, ended.attempts) == (JobState.FAILED, 1)
    assert "nothing new to learn" in ended.result["reason"]


def test_a_job_that_kills_every_worker_is_given_up(served: Workshop, job: TrainingJob) -> None:
    for attempt in range(served.settings.retrain.max_attempts):
        with served.ledger.begin() as connection:
            moment = utc_now() + timedelta(hours=attempt)
            assert jobs.claim(connection, owner="doomed", lasts=timedelta(seconds=1), now=moment) is not None
    in_process(served, later=timedelta(days=1)).work(drain=True)
    ended = current(served, job)
    assert ended.state is JobState.FAILED
    assert "given up after 3 attempts" in ended.result["reason"]
