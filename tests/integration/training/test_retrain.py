"""Planning a retraining from a real ledger and a real prediction log, and doing it."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring.core.errors import Conflict, InvalidInput, MisConfigured
from monitoring.core.ledger import jobs, labels, versions
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.settings import load_settings
from monitoring.core.types import JobState, LabelSource, ModelVersion, Stage, Variant, utc_now
from tests.bundles import make_bundle
from tests.integration.training.support import (
    LABELS,
    MODEL,
    NEW_LABEL,
    Traffic,
    ask_for_retraining,
    label_traffic,
    log_traffic,
)
from training.pipeline import run
from training.plan import Workshop, plan_retraining
from training.recent import read_corrections, read_recent
from training.snapshot import load


def test_a_retraining_learns_the_new_class_and_proves_it(
    served: Workshop, champion: ModelVersion, tmp_path: Path
) -> None:
    label_traffic(served.ledger, log_traffic(served.settings, champion, 300))
    log_traffic(served.settings, champion, 200, seed=3)  # nobody says what these were
    job = ask_for_retraining(served.ledger)

    trained = run(plan_retraining(job, served), served, actor="worker")

    assert trained.passed, trained.gates
    version, evidence = trained.version, trained.evidence
    assert version.stage is Stage.AWAITING_APPROVAL
    assert version.labels == (*sorted(LABELS), NEW_LABEL)
    assert version.lineage["parent"] == champion.id
    assert version.lineage["classes_added"] == [NEW_LABEL]
    assert version.lineage["new_labels"] == 300
    assert [gate.name for gate in trained.gates][:2] == ["no_worse_on_old", "better_on_recent"]
    assert evidence["metrics"]["candidate"]["accuracy"] > evidence["metrics"]["champion"]["accuracy"]
    by_slice = {row["slice"]: row for row in evidence["slices"]}
    assert by_slice[f"class: {NEW_LABEL}"]["champion"] == 0.0
    assert by_slice["recent hold-out"]["candidate"] > by_slice["recent hold-out"]["champion"]

    json.dumps([evidence, dict(version.lineage)], allow_nan=False)  # a database may refuse NaN

    snapshot = load(served.storage, version.lineage["snapshot"], cache=tmp_path / "cache")
    counts = snapshot.counts()
    assert counts["recent_unlabelled"] == 200
    assert counts["recent_holdout"] == by_slice["recent hold-out"]["n"]
    assert snapshot.parent == champion.lineage["snapshot"]


def test_labels_that_come_late_are_learnt_too(served: Workshop, champion: ModelVersion) -> None:
    long_ago = utc_now() - timedelta(days=30)
    late = log_traffic(served.settings, champion, 20, at=long_ago)
    log_traffic(served.settings, champion, 10, seed=4, at=long_ago)  # never labelled
    fresh = log_traffic(served.settings, champion, 5, seed=5)
    log_traffic(served.settings, champion, 5, seed=6, variant=Variant.SHADOW)
    log_traffic(served.settings, champion, 5, seed=7, error="deadline")
    trained_at = utc_now() - timedelta(hours=1)
    label_traffic(served.ledger, late)

    recent = read_recent(
        served.ledger, PredictionLog(served.settings.log_url), MODEL, since=trained_at, as_of=utc_now()
    )

    assert len(recent) == 25
    assert sum(prediction.label is not None for prediction in recent) == 20
    assert [prediction.at for prediction in recent] == sorted(prediction.at for prediction in recent)
    assert len(fresh.ids) == sum(prediction.at > trained_at for prediction in recent)


def test_what_was_corrected_since_is_learnt_anew(served: Workshop, champion: ModelVersion) -> None:
    traffic = log_traffic(served.settings, champion, 40)
    label_traffic(served.ledger, traffic)
    parent = plan_retraining(ask_for_retraining(served.ledger), served).snapshot
    learnt = {row.prediction_id: row for row in parent.rows if row.prediction_id in traffic.ids}
    assert len(learnt) == 40
    trained, judged = (
        next(name for name, row in learnt.items() if row.split == split) for split in ("train", "recent_holdout")
    )
    other = {name: next(label for label in LABELS if label != row.label) for name, row in learnt.items()}
    assert read_corrections(served.ledger, parent, as_of=utc_now()) == {}

    for name in (trained, judged):
        label_traffic(served.ledger, Traffic([name], [other[name]]))
    complained = next(name for name in learnt if name not in (trained, judged))
    label_traffic(served.ledger, Traffic([complained], [other[complained]]), LabelSource.COMPLAINT)
    early = parent.as_of + timedelta(microseconds=1)
    assert read_corrections(served.ledger, parent, as_of=early) == {}
    found = read_corrections(served.ledger, parent, as_of=utc_now())

    assert {name: one.label.label for name, one in found.items()} == {
        name: other[name] for name in (trained, judged)
    }, "a complaint does not outweigh ground truth"


def test_a_correction_alone_is_worth_a_retraining(served: Workshop, champion: ModelVersion) -> None:
    traffic = log_traffic(served.settings, champion, 300)
    label_traffic(served.ledger, traffic)
    trained = run(plan_retraining(ask_for_retraining(served.ledger), served), served, actor="worker")
    with served.ledger.begin() as connection:
        for version, stage in ((champion, Stage.ARCHIVED), (trained.version, Stage.APPROVED)):
            versions.move(connection, version, stage, actor="test", reason="test", now=utc_now())
        for stage in (Stage.SHADOW, Stage.AB_TEST, Stage.PRODUCTION):
            moved = versions.get(connection, trained.version.id)
            versions.move(connection, moved, stage, actor="test", reason="test", now=utc_now())
        state = versions.model_state(connection, MODEL)
        versions.set_champion(connection, state, production=moved.id, previous=None, watch_until=None, now=utc_now())
        claimed = jobs.claim(connection, owner="test", lasts=timedelta(seconds=9), now=utc_now())
        assert claimed is not None
        jobs.finish(connection, claimed, JobState.SUCCEEDED, reason="done", result={}, now=utc_now())
    job = ask_for_retraining(served.ledger)
    with pytest.raises(InvalidInput, match="nothing new to learn"):
        plan_retraining(job, served)

    right = "billing" if traffic.labels[0] != "billing" else "account"
    label_traffic(served.ledger, Traffic(traffic.ids[:1], [right]))
    planned = plan_retraining(job, served).snapshot

    assert [row.label for row in planned.rows if row.prediction_id == traffic.ids[0]] == [right]
    assert planned.new_labels == 1


def test_the_most_trusted_label_teaches_and_the_blind_one_judges(served: Workshop, champion: ModelVersion) -> None:
    traffic = log_traffic(served.settings, champion, 3)
    wrong = dataclasses.replace(traffic, labels=["nonsense"] * 3)
    label_traffic(served.ledger, dataclasses.replace(traffic, ids=traffic.ids[:1], labels=traffic.labels[:1]))
    label_traffic(served.ledger, wrong, LabelSource.COMPLAINT)
    log = PredictionLog(served.settings.log_url)

    recent = read_recent(served.ledger, log, MODEL, since=champion.created_at, as_of=utc_now())

    given = [prediction.label.label for prediction in recent if prediction.label is not None]
    assert sorted(map(str, given)) == sorted([traffic.labels[0], "nonsense", "nonsense"])
    assert [str(prediction.truth.label) for prediction in recent if prediction.truth is not None] == traffic.labels[:1]
    with served.ledger.read() as connection:
        assert set(labels.first_labelled_since(connection, champion.created_at)) == set(traffic.ids)


def test_without_new_labels_there_is_nothing_to_learn(served: Workshop, champion: ModelVersion) -> None:
    log_traffic(served.settings, champion, 50)
    with pytest.raises(InvalidInput, match="nothing new to learn"):
        plan_retraining(ask_for_retraining(served.ledger), served)


def test_texts_that_are_not_kept_cannot_be_learnt_from(served: Workshop, champion: ModelVersion) -> None:
    job = ask_for_retraining(served.ledger)
    forgetful = dataclasses.replace(served, settings=load_settings(log={"text": "hash"}))
    with pytest.raises(MisConfigured, match=r"set log\.text to 'store'"):
        plan_retraining(job, forgetful)


def test_a_result_whose_job_was_taken_over_is_not_registered(served: Workshop, tmp_path: Path) -> None:
    ask_for_retraining(served.ledger)
    lease = timedelta(seconds=30)
    with served.ledger.begin() as connection:
        mine = jobs.claim(connection, owner="slow", lasts=lease, now=utc_now())
    with served.ledger.begin() as connection:
        theirs = jobs.claim(connection, owner="quick", lasts=lease, now=utc_now() + timedelta(minutes=1))
    assert mine is not None
    assert theirs is not None
    assert theirs.fence == mine.fence + 1

    bundle = make_bundle(tmp_path / "bundle", labels=LABELS)
    with pytest.raises(Conflict, match="taken over"):
        served.registry.add(
            bundle,
            evidence={},
            actor="slow",
            gates_passed=True,
            conclude=lambda connection, version: jobs.finish(
                connection, mine, JobState.SUCCEEDED, reason="done", result={}, now=utc_now()
            ),
        )
    with served.ledger.read() as connection:
        assert versions.find(connection, model=bundle.config.model, stages={Stage.AWAITING_APPROVAL}) == []
