"""Promotions, rollbacks, and what waits for a person."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle, seal
from monitoring.core.errors import BrokenBundle, NotFound, NotReady
from monitoring.core.ledger import jobs, rollouts
from monitoring.core.types import JobState, RetrainCause, Variant, Verdict
from monitoring.monitor import Monitor
from monitoring.policy import Action
from tests.bundles import LABELS, make_bundle
from tests.conftest import FrozenClock
from tests.integration.monitoring.test_monitor import NEW_TOPIC
from tests.integration.monitoring.world import MODEL, World, settings_for


def test_a_promotion_closes_the_old_episode_and_starts_detector_and_windows_anew(
    world: World, next_bundle: Bundle
) -> None:
    old = world.champion()
    world.serve(old, 200)
    world.serve(old, 150, topics=NEW_TOPIC)
    world.watch()
    candidate = world.approve(world.register(next_bundle))
    rollout = world.start_rollout(candidate, share=0.5)
    world.serve(candidate, 50, topics=NEW_TOPIC, rollout=rollout, variant=Variant.CANDIDATE)
    world.promote(rollout)
    world.serve(candidate, 210, topics=(*LABELS, "returns"))
    world.serve(old, 20)
    [summary] = world.watch()
    assert summary.version == candidate.name
    assert summary.resolved == ("drift",)
    assert world.alerts() == []
    assert [(report.n, report.verdict) for report in summary.reports] == [(200, Verdict.STABLE)]
    assert world.gauges()["seen"] == 210


def test_a_restored_version_starts_anew_too(world: World, next_bundle: Bundle) -> None:
    old = world.champion()
    world.serve(old, 250)
    world.watch()
    candidate = world.approve(world.register(next_bundle))
    world.promote(world.start_rollout(candidate, share=0.5))
    world.serve(candidate, 50)
    world.watch()
    with world.ledger.begin() as connection:
        rollouts.restore_previous(connection, MODEL, actor="ann", reason="worse", now=world.clock())
    world.serve(old, 60)
    world.watch()
    assert world.gauges()["seen"] == 60
    assert world.gauges()["severity"] is None


def test_what_waits_for_a_person_is_an_alert_until_it_is_decided(world: World, next_bundle: Bundle) -> None:
    candidate = world.register(next_bundle)
    assert world.watch()[0].fired == ("approval_waiting",)
    assert world.watch()[0].fired == ()
    approved = world.approve(candidate)
    assert world.watch()[0].resolved == ("approval_waiting",)
    rollout = world.start_rollout(approved, share=0.5)
    with world.ledger.begin() as connection:
        rollouts.pause(connection, rollout, reason="no verdict in time", now=world.clock())
    assert world.watch()[0].fired == ("rollout_inconclusive",)


def test_a_failed_retraining_is_an_alert_until_one_succeeds(world: World) -> None:
    finish_job(world, JobState.FAILED)
    assert world.watch()[0].fired == ("retrain_failed",)
    world.clock.advance(timedelta(seconds=1))
    finish_job(world, JobState.SUCCEEDED)
    assert world.watch()[0].resolved == ("retrain_failed",)


def test_the_schedule_asks_once_and_waits_while_a_job_is_open(world: World) -> None:
    monitor = Monitor(ledger=world.ledger, log=world.log, registry=world.registry, settings=world.settings)
    decisions = [monitor.retrain_on_schedule(MODEL, now=world.clock()) for _ in range(2)]
    assert [decision.action for decision in decisions] == [Action.RETRAIN, Action.WAIT]
    assert [job.cause for job in world.jobs()] == [RetrainCause.SCHEDULE]


def test_a_model_without_a_champion_is_watched_for_its_approval_only(
    home: Path, clock: FrozenClock, rng: np.random.Generator, bundle: Bundle
) -> None:
    with closing(World(home, clock, rng, settings_for(home))) as world:
        world.register(bundle)
        [summary] = world.watch()
        assert (summary.version, summary.fired, summary.decision) == (None, ("approval_waiting",), None)
        monitor = Monitor(ledger=world.ledger, log=world.log, registry=world.registry, settings=world.settings)
        with pytest.raises(NotReady, match="no production version"):
            monitor.retrain_on_schedule(MODEL, now=clock())


def test_an_unknown_model_and_a_broken_baseline_are_named(world: World, tmp_path: Path, next_bundle: Bundle) -> None:
    monitor = Monitor(ledger=world.ledger, log=world.log, registry=world.registry, settings=world.settings)
    with pytest.raises(NotFound, match="'nobody' does not exist"):
        monitor.watch("nobody", now=world.clock())
    broken = make_bundle(tmp_path / "broken", model=MODEL, rows=60)
    broken.path(bundles.BASELINE).write_bytes(b"not an archive")
    candidate = world.approve(world.register(seal(broken.folder)))
    world.promote(world.start_rollout(candidate, share=0.5))
    with pytest.raises(BrokenBundle, match=r"baseline\.npz is not a baseline"):
        world.watch()


def finish_job(world: World, state: JobState) -> None:
    """Ask for a retraining by hand and end it."""
    with world.ledger.begin() as connection:
        jobs.request(
            connection,
            model=MODEL,
            cause=RetrainCause.MANUAL,
            reason="test",
            request={},
            actor="ann",
            now=world.clock(),
        )
        job = jobs.claim(connection, owner="worker", lasts=timedelta(minutes=1), now=world.clock())
        assert job is not None
        jobs.finish(connection, job, state, reason="test", result={}, now=world.clock())
