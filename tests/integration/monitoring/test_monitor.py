"""The monitor's tick on the real thing: a toy model's answers through spool, Delta table and ledger."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from monitoring.core.bundle import Bundle
from monitoring.core.ledger import jobs
from monitoring.core.settings import LogSettings
from monitoring.core.types import JobState, LabelSource, RetrainCause, Severity, Verdict
from monitoring.policy import Action
from tests.bundles import LABELS, make_bundle
from tests.conftest import FrozenClock
from tests.integration.monitoring.world import Answer, World, settings_for

NEW_TOPIC = (*LABELS, "returns", "returns")


def test_traffic_like_the_baseline_raises_no_alarm(world: World) -> None:
    world.serve(world.champion(), 1000)
    [summary] = world.watch()
    assert summary.rows == 1000
    assert [report.verdict for report in summary.reports] == [Verdict.STABLE] * 5
    assert {report.n for report in summary.reports} == {200}
    for report in summary.reports:
        assert report.estimated_accuracy.low <= 0.95 <= report.estimated_accuracy.high
    assert summary.fired == ()
    assert summary.decision is not None
    assert summary.decision.action is Action.NONE
    assert (world.gauges()["seen"], world.gauges()["severity"]) == (1000, 0)


def test_an_embedding_that_is_no_number_is_called_so_and_stops_nothing(world: World) -> None:
    version = world.champion()
    world.serve(version, 200, broken=True)
    world.serve(version, 200)
    [summary] = world.watch()
    broken, whole = summary.reports
    assert (broken.verdict, whole.verdict) == (Verdict.INCONCLUSIVE, Verdict.STABLE)
    assert "for want of numbers in the window" in broken.reason


def test_what_was_judged_is_not_judged_again(world: World) -> None:
    world.serve(world.champion(), 250)
    world.watch()
    [again] = world.watch()
    assert (again.rows, again.outcomes, again.reports) == (0, 0, ())
    world.serve(world.champion(), 150)
    [later] = world.watch()
    assert (later.rows, len(later.reports)) == (150, 1)
    assert world.gauges()["seen"] == 400


def test_drift_is_alarmed_explained_and_retrained_once_labels_have_come(world: World) -> None:
    world.serve(world.champion(), 400)
    world.watch()
    began = world.clock()
    drifted = world.serve(world.champion(), 400, topics=NEW_TOPIC)
    [summary] = world.watch()
    assert summary.fired == ("drift",)
    assert [report.verdict for report in summary.reports] == [Verdict.DRIFT] * 2
    assert {entry["word"] for entry in summary.reports[0].moved["words"]} >= {"exchange", "wrong"}
    assert summary.decision is not None
    assert summary.decision.action is Action.WAIT
    assert "drift without shown harm" in summary.decision.reason
    assert "leeway labels queue" in summary.decision.reason

    [alert] = world.alerts()
    assert alert.severity is Severity.WARNING
    assert alert.detail["detector"] == "sequential"
    assert 400 < alert.detail["n_seen"] < 480
    onset = datetime.fromisoformat(alert.detail["onset_at"])
    assert began - timedelta(seconds=30) < onset < began + timedelta(seconds=60)

    world.label(drifted[:100])
    [labelled] = world.watch()
    assert labelled.outcomes == 100
    assert labelled.decision is not None
    assert labelled.decision.action is Action.RETRAIN
    assert "by labels" in labelled.decision.reason
    [job] = world.jobs()
    assert job.cause is RetrainCause.DRIFT
    [louder] = [open_alert for open_alert in world.alerts() if open_alert.name == "drift"]
    assert louder.severity is Severity.CRITICAL
    assert job.request == {"onset_at": alert.detail["onset_at"], "alert": louder.id}

    world.serve(world.champion(), 200, topics=NEW_TOPIC)
    [held] = world.watch()
    assert held.decision is not None
    assert held.decision.reason == "a training job for drift is under way"
    assert "drift" not in held.fired
    assert len(world.jobs()) == 1


def test_a_retraining_that_cured_nothing_is_repeated_once_as_many_labels_have_come_again(world: World) -> None:
    world.serve(world.champion(), 400)
    drifted = world.serve(world.champion(), 400, topics=NEW_TOPIC)
    world.watch()
    world.label(drifted[:100])
    world.watch()
    with world.ledger.begin() as connection:
        job = jobs.claim(connection, owner="worker", lasts=timedelta(minutes=1), now=world.clock())
        assert job is not None
        jobs.finish(connection, job, JobState.SUCCEEDED, reason="gates failed", result={}, now=world.clock())
    world.clock.advance(timedelta(seconds=1))
    world.label(drifted[100:140])
    [waiting] = world.watch()
    assert waiting.decision is not None
    assert waiting.decision.reason.startswith("waiting for labels: 40 of 60 since the last retraining (")
    world.label(drifted[140:160])
    [again] = world.watch()
    assert again.decision is not None
    assert again.decision.action is Action.RETRAIN
    assert len(world.jobs()) == 2


def test_labels_that_a_refused_retraining_knew_do_not_ask_for_another_one(
    home: Path, clock: FrozenClock, rng: np.random.Generator, bundle: Bundle
) -> None:
    with closing(World(home, clock, rng, settings_for(home, label_volume=100))) as world:
        world.approve(world.register(bundle))
        served = world.serve(world.champion(), 260)

        def asked_with(answers: list[Answer]) -> Action:
            world.label(answers)
            [summary] = world.watch()
            assert summary.decision is not None
            return summary.decision.action

        assert asked_with(served[:99]) is Action.NONE
        assert asked_with(served[99:100]) is Action.RETRAIN
        end_job(world, JobState.FAILED)
        assert asked_with([]) is Action.RETRAIN  # it died, and so has used nothing
        end_job(world, JobState.SUCCEEDED)
        assert asked_with(served[100:199]) is Action.NONE
        ask_for_recalibration(world)
        end_job(world, JobState.SUCCEEDED)
        assert asked_with(served[199:200]) is Action.RETRAIN
        assert {job.cause for job in world.jobs()} == {RetrainCause.LABEL_VOLUME, RetrainCause.CALIBRATION}


def end_job(world: World, state: JobState) -> None:
    """Let a worker take the open job, and end it a second later."""
    world.clock.advance(timedelta(seconds=1))
    with world.ledger.begin() as connection:
        job = jobs.claim(connection, owner="worker", lasts=timedelta(minutes=1), now=world.clock())
        assert job is not None
        jobs.finish(connection, job, state, reason="test", result={}, now=world.clock())
    world.clock.advance(timedelta(seconds=1))


def ask_for_recalibration(world: World) -> None:
    with world.ledger.begin() as connection:
        jobs.request(
            connection,
            model=world.champion().model,
            cause=RetrainCause.CALIBRATION,
            reason="test",
            request={},
            actor="ann",
            now=world.clock(),
        )


def test_a_window_that_speaks_first_dates_the_drift_by_what_the_detector_suspects(
    home: Path, clock: FrozenClock, rng: np.random.Generator, bundle: Bundle
) -> None:
    """The share that the detector may spend is so small that it never alarms; the drift begins in mid-window."""
    usual = settings_for(home)
    silent = usual.monitor.model_copy(update={"sequential_share": 1e-30})
    with closing(World(home, clock, rng, usual.model_copy(update={"monitor": silent}))) as world:
        world.approve(world.register(bundle))
        world.serve(world.champion(), 350)
        world.watch()
        began = world.clock()
        world.serve(world.champion(), 50, topics=NEW_TOPIC)
        [summary] = world.watch()
        assert summary.fired == ("drift",)
        [alert] = world.alerts()
    assert alert.detail["detector"] == "window"
    onset = datetime.fromisoformat(alert.detail["onset_at"])
    assert began - timedelta(seconds=20) < onset < began + timedelta(seconds=20)  # the window began 150 s before


def test_complaints_are_kept_but_do_not_judge(world: World) -> None:
    served = world.serve(world.champion(), 300)
    world.label([replace(answer, label="returns") for answer in served[:100]], LabelSource.COMPLAINT)
    [summary] = world.watch()
    assert summary.outcomes == 100
    assert (world.gauges()["labelled"], world.gauges()["realised"]) == (100, None)
    assert world.alerts() == []


def test_labels_prove_a_loss_where_no_signal_moved(world: World) -> None:
    """Concept shift: the same words now mean something else."""
    served = world.serve(world.champion(), 400)
    world.watch()
    renamed = {"billing": "delivery", "delivery": "billing"}
    world.label([replace(answer, label=renamed.get(answer.label, answer.label)) for answer in served[:150]])
    [summary] = world.watch()
    assert set(summary.fired) == {"quality", "calibration"}
    assert {alert.severity for alert in world.alerts() if alert.name == "quality"} == {Severity.CRITICAL}
    assert [job.cause for job in world.jobs()] == [RetrainCause.DRIFT]
    assert world.gauges()["realised"]["high"] < 0.7


def test_confidences_that_went_wrong_alone_ask_for_a_recalibration(
    home: Path, clock: FrozenClock, rng: np.random.Generator, tmp_path: Path
) -> None:
    """A model that mistook billing for delivery becomes right: people now call it so, and it is surer than it knew."""
    bundle = make_bundle(tmp_path / "mistaken", labels=LABELS, mistakes={"billing": "delivery"})
    with closing(World(home, clock, rng, settings_for(home))) as world:
        world.approve(world.register(bundle))
        champion = world.champion()
        world.label(world.serve(champion, 200))
        [quiet] = world.watch()
        assert quiet.fired == ()
        began = world.clock()
        served, more = world.serve(champion, 200), world.serve(champion, 60)
        renamed = [replace(one, label="delivery" if one.label == "billing" else one.label) for one in served]
        world.label(renamed)
        [summary] = world.watch()
        assert summary.fired == ("calibration",)
        assert summary.decision is not None
        assert summary.decision.action is Action.RECALIBRATE, summary.decision.reason
        [job] = world.jobs()
        [alert] = world.alerts()
        assert job.cause is RetrainCause.CALIBRATION
        assert job.request == {"onset_at": alert.detail["onset_at"], "alert": alert.id}
        onset = datetime.fromisoformat(job.request["onset_at"])
        assert began - timedelta(seconds=30) < onset < began + timedelta(seconds=30)
        [held] = world.watch()
        assert held.decision is not None
        assert held.decision.reason == "a training job for calibration is under way"

        with world.ledger.begin() as connection:
            job = jobs.claim(connection, owner="worker", lasts=timedelta(minutes=1), now=world.clock())
            jobs.finish(connection, job, JobState.SUCCEEDED, reason="gates failed", result={}, now=world.clock())
        world.clock.advance(timedelta(seconds=1))
        world.label([replace(one, label="delivery" if one.label == "billing" else one.label) for one in more[:59]])
        [waiting] = world.watch()
        assert waiting.decision is not None
        assert waiting.decision.reason == (
            "waiting for labels to recalibrate with: 59 of 60 outcome-blind ones since the last recalibration"
        )


def test_an_episode_ends_after_quiet_windows(world: World) -> None:
    world.serve(world.champion(), 200)
    world.serve(world.champion(), 200, topics=NEW_TOPIC)
    world.watch()
    assert [alert.name for alert in world.alerts()] == ["drift"]
    world.serve(world.champion(), 400)
    world.watch()
    assert [alert.name for alert in world.alerts()] == ["drift"]
    world.serve(world.champion(), 200)
    [summary] = world.watch()
    assert summary.resolved == ("drift",)
    assert world.alerts() == []


def test_hashed_texts_are_not_read_as_words(
    home: Path, clock: FrozenClock, rng: np.random.Generator, bundle: Bundle
) -> None:
    settings = settings_for(home).model_copy(update={"log": LogSettings(text="hash")})
    with closing(World(home, clock, rng, settings)) as world:
        world.approve(world.register(bundle))
        world.serve(world.champion(), 200, topics=NEW_TOPIC)
        [report] = world.watch()[0].reports
    assert "vocabulary" not in {finding.signal for finding in report.findings}
    assert report.verdict is Verdict.DRIFT
    assert report.moved["words"] == []
    assert {example["text"] for example in report.moved["examples"]} == {""}
