"""A worker recalibrates a toy model that is served with a wrong temperature; no torch takes part."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitoring.baseline import Baseline
from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle
from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.errors import InvalidInput
from monitoring.core.ids import new_id
from monitoring.core.ledger import approvals, jobs, versions
from monitoring.core.ledger.baselines import BaselineChange
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.settings import load_settings
from monitoring.core.signals import SIGNALS
from monitoring.core.spool import SpoolWriter
from monitoring.core.types import JobState, LabelSource, ModelVersion, RetrainCause, Stage, TrainingJob, utc_now
from monitoring.in_force import load_baseline
from monitoring.rebaseline import change_baseline
from monitoring.stats.calibration import debiased_ece
from tests.bundles import make_bundle, toy_texts
from tests.integration.training.support import MODEL, Traffic, label_traffic, record
from tests.integration.training.test_worker import child_of, wait_for, worker_process
from training.data import LabelledData, split
from training.inherited import Span, inherit_baseline
from training.plan import Workshop
from training.progress import silent
from training.recalibrate import Recalibration, plan_recalibration, recalibrate
from training.snapshot import first_snapshot, load, store
from training.trained import Trained

LABELS = ("account", "billing", "delivery")
RIGHT, TOO_SURE = 1.5, 0.4
"""The temperature at which labels are drawn, and one that makes the model nearly certain of everything."""
SERVED = timedelta(minutes=30)


@pytest.fixture
def workshop(home: Path) -> Workshop:
    settings = load_settings()
    ledger = open_ledger(settings, create=True)
    return Workshop(settings, ledger, open_registry(settings, ledger), utc_now, silent)


Serve = Callable[[float], ModelVersion]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ClassifierRuntime:
    """The toy model with the temperature at which its probabilities are the truth."""
    return ClassifierRuntime(make_bundle(tmp_path_factory.mktemp("world"), labels=LABELS, temperature=RIGHT))


def draw(world: ClassifierRuntime, n: int, seed: int, temperature: float = RIGHT) -> tuple[list[str], list[str]]:
    """Texts, and labels that come true as the model at `temperature` promises."""
    rng = np.random.default_rng(seed)
    texts, _ = toy_texts(LABELS, n, rng)
    probabilities = world.predict(texts).probabilities ** (RIGHT / temperature)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return texts, [str(rng.choice(LABELS, p=row)) for row in probabilities]


@pytest.fixture
def serve(workshop: Workshop, world: ClassifierRuntime, tmp_path: Path) -> Serve:
    """Puts the toy model into production at a temperature, with the snapshot that it claims to come from."""

    def put(temperature: float) -> ModelVersion:
        texts, truth = draw(world, 600, 1)
        data = LabelledData(tuple(texts), tuple(truth))
        stored = store(workshop.storage, first_snapshot(data, split(texts, truth, seed=1), as_of=utc_now()))
        lineage = {
            "snapshot": stored.name,
            "data_hash": stored.data_hash,
            "as_of": (utc_now() - timedelta(hours=1)).isoformat(),
        }
        bundle = make_bundle(tmp_path / "bundle", labels=LABELS, temperature=temperature, lineage=lineage)
        version = workshop.registry.add(bundle, evidence={}, actor="test", gates_passed=True)
        with workshop.ledger.begin() as connection:
            return approvals.approve(
                connection,
                version,
                person="ada",
                reason="the first",
                bundle_hash=None,
                valid_for=timedelta(hours=1),
                now=utc_now() - SERVED,
            )

    return put


def log_labelled(
    workshop: Workshop,
    version: ModelVersion,
    drawn: tuple[list[str], list[str]],
    source: LabelSource = LabelSource.GROUND_TRUTH,
) -> None:
    """Traffic of as many customers as texts, all of it labelled."""
    texts, truth = drawn
    ids = [new_id() for _ in texts]
    writer = SpoolWriter(workshop.settings.spool_dir, writer=f"test-{ids[0]}", segment_bytes=1 << 20, max_bytes=1 << 30)
    with closing(writer):
        customers = [f"{number} {text}" for number, text in enumerate(texts)]  # the same callers in every run
        rows = [
            record(one, version, text, unit=customer).row()
            for one, text, customer in zip(ids, texts, customers, strict=True)
        ]
        assert writer.append(rows)
    PredictionLog(workshop.settings.log_url).ship(workshop.settings.spool_dir)
    label_traffic(workshop.ledger, Traffic(ids, truth), source)


def ask(ledger: Ledger, **request: Any) -> TrainingJob:
    with ledger.begin() as connection:
        return jobs.request(
            connection,
            model=MODEL,
            cause=RetrainCause.CALIBRATION,
            reason="it is too sure",
            request={"onset_at": None, "alert": None} | request,
            actor="ada",
            now=utc_now(),
        )


def error_on(bundle: Bundle, texts: Sequence[str], truth: Sequence[str]) -> float:
    """Debiased calibration error of what the bundle answers."""
    answers = ClassifierRuntime(bundle).predict(texts)
    said = np.array(bundle.config.labels)[answers.predicted]
    return debiased_ece(answers.confidence, said == np.array(truth))


def recalibrated(workshop: Workshop, **request: Any) -> Trained:
    return recalibrate(plan_recalibration(ask(workshop.ledger, **request), workshop), workshop, actor="worker")


def test_an_overconfident_model_is_cured_and_answers_as_before(
    workshop: Workshop, serve: Serve, world: ClassifierRuntime, tmp_path: Path
) -> None:
    champion = serve(TOO_SURE)
    log_labelled(workshop, champion, draw(world, 500, 2))

    made = recalibrated(workshop)

    assert made.passed, made.gates
    version, evidence = made.version, made.evidence
    assert version.stage is Stage.AWAITING_APPROVAL
    assert [gate.name for gate in made.gates] == ["nll_on_recent", "labels_unchanged", "calibration"]
    old, new = workshop.registry.fetch(champion), workshop.registry.fetch(version)
    assert new.config.temperature > 2 * old.config.temperature

    texts, truth = draw(world, 1500, 99)
    before, after = (ClassifierRuntime(bundle).predict(texts) for bundle in (old, new))
    assert (before.predicted == after.predicted).all()
    assert error_on(old, texts, truth) > 0.1
    assert error_on(new, texts, truth) < 0.05

    told = evidence["recalibration"]
    assert told["temperature"] == {"before": TOO_SURE, "after": new.config.temperature}
    nll = told["recent"]["measures"]["nll"]
    assert nll["after"]["low"] < nll["after"]["value"] < nll["before"]["value"] < nll["before"]["high"]
    assert told["recent"]["measures"]["classwise_ece"]["after"]["low"] >= 0.0
    assert told["old"]["n"] > 0
    json.dumps([evidence, dict(version.lineage)], allow_nan=False)


def test_what_it_is_made_of_can_be_read_back_and_a_retraining_can_follow(
    workshop: Workshop, serve: Serve, world: ClassifierRuntime, tmp_path: Path
) -> None:
    champion = serve(TOO_SURE)
    log_labelled(workshop, champion, draw(world, 500, 2))
    version = recalibrated(workshop).version
    old, new = workshop.registry.fetch(champion), workshop.registry.fetch(version)

    lineage = version.lineage
    assert (lineage["cause"], lineage["parent"]) == ("calibration", champion.id)
    # a retraining goes on from the data that the weights were learnt from
    assert (lineage["snapshot"], lineage["as_of"]) == (champion.lineage["snapshot"], champion.lineage["as_of"])
    used = load(workshop.storage, lineage["recalibration"]["snapshot"], cache=tmp_path / "cache").counts()
    assert used["validation"] == lineage["recalibration"]["fitted"]
    assert used["validation"] + used["recent_holdout"] == 500

    changed = {path.name for path in new.folder.iterdir() if path.read_bytes() != old.path(path.name).read_bytes()}
    assert changed == {bundles.CONFIG, bundles.BASELINE, bundles.EVALUATION, bundles.CARD, bundles.MANIFEST}
    card = new.path(bundles.CARD).read_text()
    assert "support@1 with another temperature: 0.400 became" in card
    assert "A toy classifier for tests" in card

    was, now = (Baseline.load(bundle.path(bundles.BASELINE)) for bundle in (old, new))
    assert now.signals["confidence"].mean() < was.signals["confidence"].mean() - 0.05
    stated = np.array([0.6, 0.9])
    assert np.abs(now.accuracy_at(stated) - stated).max() < 0.15  # a confidence is worth what it says


def change_the_baseline(workshop: Workshop, champion: ModelVersion, *, kept: float = 1.0) -> BaselineChange:
    """To 400 answers about one topic, of which the hold-out has few; a share of their texts is `kept` in the log."""
    texts, _ = toy_texts(("billing",), 400, np.random.default_rng(5))
    until = utc_now()
    since = until - timedelta(seconds=len(texts))  # one a second
    log_answers(workshop, champion, texts, since, kept=kept)
    changed = change_baseline(
        workshop.ledger,
        PredictionLog(workshop.settings.log_url),
        workshop.registry,
        workshop.settings,
        MODEL,
        since=since,
        until=until,
        actor="ada",
        reason="the shop sells nothing else now",
        now=until,
    )
    return changed.change


def log_answers(
    workshop: Workshop, version: ModelVersion, texts: Sequence[str], since: datetime, *, kept: float
) -> None:
    """Traffic as the version really answers it, a text a second."""
    answers = ClassifierRuntime(workshop.registry.fetch(version)).predict(texts)
    rows = [
        replace(
            record(
                new_id(),
                version,
                text if number < kept * len(texts) else None,
                unit=f"customer {number}",
                at=since + timedelta(seconds=number),
            ),
            predicted=version.labels[answers.predicted[number]],
            **{name: float(answers.signal(name)[number]) for name in SIGNALS},
            projected=answers.projected[number].tolist(),
        ).row()
        for number, text in enumerate(texts)
    ]
    spool = workshop.settings.spool_dir
    with closing(SpoolWriter(spool, writer=f"test-{new_id()}", segment_bytes=1 << 20, max_bytes=1 << 30)) as writer:
        assert writer.append(rows)
    PredictionLog(workshop.settings.log_url).ship(spool)


def test_a_baseline_that_was_changed_is_the_successors_too(
    workshop: Workshop, serve: Serve, world: ClassifierRuntime
) -> None:
    champion = serve(TOO_SURE)
    change = change_the_baseline(workshop, champion)
    log_labelled(workshop, champion, draw(world, 500, 2))
    version = recalibrated(workshop).version

    told = version.lineage["recalibration"]["baseline"]
    since, until = change.since.isoformat(), change.until.isoformat()
    assert told == {"version": champion.id, "since": since, "until": until, "rows": 400}
    new = workshop.registry.fetch(version)
    made = Baseline.load(new.path(bundles.BASELINE))
    assert made.n == 400
    assert made.class_counts[LABELS.index("billing")] > 350, "the span's topic, not the hold-out's mixture"
    before = load_baseline(workshop.registry, champion, change)
    assert made.signals["confidence"].mean() < before.signals["confidence"].mean() - 0.05, "answered anew"
    assert made.week is not None
    assert made.week.counts[:, 0].sum() == 400
    assert f"new answers to the texts of {since} to {until}" in new.path(bundles.CARD).read_text()


@pytest.mark.parametrize(
    ("kept", "retained", "said"),
    [
        (1.0, False, "the log has 0 of its 400 answers left"),
        (0.5, True, "the log has the texts of only 50% of its answers"),
    ],
)
def test_a_span_of_which_too_little_is_left_gives_way_to_the_hold_out(
    workshop: Workshop, serve: Serve, world: ClassifierRuntime, kept: float, retained: bool, said: str
) -> None:
    champion = serve(TOO_SURE)
    change_the_baseline(workshop, champion, kept=kept)
    if not retained:
        log = PredictionLog(workshop.settings.log_url)
        log.maintain(retention_days=1, now=utc_now() + timedelta(days=9))
    log_labelled(workshop, champion, draw(world, 500, 2))
    version = recalibrated(workshop).version
    assert version.lineage["recalibration"]["baseline"] == {"reason": said}
    new, old = (workshop.registry.fetch(one) for one in (version, champion))
    made, first = (Baseline.load(bundle.path(bundles.BASELINE)) for bundle in (new, old))
    assert made.week is None
    assert np.abs(made.class_counts / made.n - first.class_counts / first.n).max() < 0.15
    assert f"not that of the span which was in force, since {said}" in new.path(bundles.CARD).read_text()


def test_texts_that_are_others_than_were_answered_are_no_span(
    workshop: Workshop, serve: Serve, world: ClassifierRuntime, tmp_path: Path
) -> None:
    champion = serve(TOO_SURE)
    since = utc_now()
    log_labelled(workshop, champion, draw(world, 500, 2))  # logged as answered with one label, whatever they say
    draft = make_bundle(tmp_path / "draft", labels=LABELS, temperature=RIGHT)
    span = Span(champion.id, since, utc_now(), 500)
    assert "of its texts are answered as they were" in inherit_baseline(draft, span, workshop, seed=1)["reason"]


def promote(workshop: Workshop, champion: ModelVersion, successor: ModelVersion) -> None:
    """Put the successor in the champion's place, and end the job that made it."""
    with workshop.ledger.begin() as connection:
        for version, stage in ((champion, Stage.ARCHIVED), (successor, Stage.APPROVED), (successor, Stage.SHADOW)):
            version = versions.get(connection, version.id)
            versions.move(connection, version, stage, actor="test", reason="promoted", now=utc_now())
        for stage in (Stage.AB_TEST, Stage.PRODUCTION):
            promoted = versions.get(connection, successor.id)
            versions.move(connection, promoted, stage, actor="test", reason="promoted", now=utc_now())
        state = versions.model_state(connection, MODEL)
        versions.set_champion(
            connection, state, production=successor.id, previous=None, watch_until=None, now=utc_now()
        )
    with workshop.ledger.begin() as connection:  # the first job is over
        claimed = jobs.claim(connection, owner="test", lasts=timedelta(seconds=9), now=utc_now())
        assert claimed is not None
        jobs.finish(connection, claimed, JobState.SUCCEEDED, reason="done", result={}, now=utc_now())


def test_a_calibrated_model_is_left_alone(workshop: Workshop, serve: Serve, world: ClassifierRuntime) -> None:
    champion = serve(TOO_SURE)
    log_labelled(workshop, champion, draw(world, 500, 2))
    first = recalibrated(workshop).version
    promote(workshop, champion, first)
    log_labelled(workshop, first, draw(world, 500, 3))

    again = recalibrated(workshop)

    assert not again.passed
    assert again.version.stage is Stage.REJECTED
    (failed,) = [gate for gate in again.gates if not gate.passed]
    assert failed.name == "nll_on_recent"
    assert "not proven" in failed.reason
    # only what was labelled since the last fit was read
    assert again.version.lineage["recalibration"]["fitted"] + again.version.lineage["recalibration"]["judged"] == 500


def test_the_span_is_inherited_once_more(workshop: Workshop, serve: Serve, world: ClassifierRuntime) -> None:
    champion = serve(TOO_SURE)
    change_the_baseline(workshop, champion)
    log_labelled(workshop, champion, draw(world, 500, 2))
    first = recalibrated(workshop).version
    promote(workshop, champion, first)
    log_labelled(workshop, first, draw(world, 500, 3))
    second = recalibrated(workshop).version
    assert second.lineage["recalibration"]["of"] == first.name
    assert second.lineage["recalibration"]["baseline"] == first.lineage["recalibration"]["baseline"]
    assert Baseline.load(workshop.registry.fetch(second).path(bundles.BASELINE)).n == 400


def test_only_what_came_since_calibration_was_lost_counts(
    workshop: Workshop, serve: Serve, world: ClassifierRuntime
) -> None:
    champion = serve(RIGHT)
    log_labelled(workshop, champion, draw(world, 300, 2))
    onset = utc_now()
    log_labelled(workshop, champion, draw(world, 400, 3, 0.5))
    plan = plan_recalibration(ask(workshop.ledger, onset_at=onset.isoformat()), workshop)
    assert isinstance(plan, Recalibration)
    assert len(plan.recent.rows) == 400


def test_complaints_fit_and_judge_nothing(workshop: Workshop, serve: Serve, world: ClassifierRuntime) -> None:
    champion = serve(TOO_SURE)
    log_labelled(workshop, champion, draw(world, 300, 2), LabelSource.COMPLAINT)
    with pytest.raises(InvalidInput, match="too few recent outcome-blind labels to recalibrate with: 0 of 50"):
        plan_recalibration(ask(workshop.ledger), workshop)


def test_a_model_without_a_snapshot_says_what_is_missing(workshop: Workshop, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", labels=LABELS)
    version = workshop.registry.add(bundle, evidence={}, actor="test", gates_passed=True)
    with workshop.ledger.begin() as connection:
        approvals.approve(
            connection,
            version,
            person="ada",
            reason="the first",
            bundle_hash=None,
            valid_for=timedelta(hours=1),
            now=utc_now(),
        )
    with pytest.raises(InvalidInput, match="its lineage lacks 'snapshot'"):
        plan_recalibration(ask(workshop.ledger), workshop)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the worker's child in /proc")
def test_a_crash_in_the_middle_is_followed_by_another_attempt_and_one_candidate(
    workshop: Workshop, serve: Serve, world: ClassifierRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    log_labelled(workshop, serve(TOO_SURE), draw(world, 500, 2))
    job = ask(workshop.ledger)
    with worker_process() as worker:
        wait_for(worker, "baseline begins")
        os.kill(child_of(worker), signal.SIGKILL)
        wait_for(worker, "training succeeded: support@2 waits for approval")
        worker.wait()
    with workshop.ledger.read() as connection:
        done = jobs.get(connection, job.id)
        (candidate,) = versions.find(connection, stages={Stage.AWAITING_APPROVAL})
    assert (done.state, done.attempts) == (JobState.SUCCEEDED, 2)
    assert (done.result["version"], done.result["gates_passed"]) == (candidate.id, True)
    assert candidate.lineage["cause"] == RetrainCause.CALIBRATION


def test_a_recalibration_loads_no_training_library() -> None:
    code = "import sys, training.child, training.recalibrate; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "onnx"} & set(done.stdout.split())
