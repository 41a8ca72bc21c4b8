"""The way from approval to promotion, and after it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from monitoring.core.ledger import alerts, approvals, rollouts
from monitoring.core.ledger.rollout_evidence import SILENT_STEP
from monitoring.core.tables import versions as version_table
from monitoring.core.types import ModelVersion, RolloutPhase, Stage, Variant
from service.controller import Controller
from tests.conftest import FrozenClock
from tests.evidence import recalibrated_from, recalibration_evidence
from tests.exposures import exposure, outcome
from tests.rolling import (
    HOUR,
    begin,
    check_champions,
    controller_of,
    drive,
    feed,
    open_alerts,
    open_rollout,
    state,
    trail,
    under_way,
)
from tests.world import World


@pytest.fixture
def world(tmp_path: Path, clock: FrozenClock) -> World:
    return World.create(tmp_path, clock)


@pytest.fixture
def controller(world: World) -> Controller:
    return controller_of(world)


def test_a_rollout_begins_once_every_serving_process_has_loaded_the_candidate(
    world: World, controller: Controller
) -> None:
    champion = world.champion()
    candidate = world.approve(world.candidate())
    controller.reconcile()
    assert open_rollout(world) is None  # nobody serves
    world.load(champion, candidate)
    world.load(champion, replica="replica-2")
    controller.reconcile()
    assert open_rollout(world) is None  # one is still loading
    world.load(champion, candidate, replica="replica-2")
    controller.reconcile()
    found = under_way(world)
    assert (found.candidate, found.champion, found.stage, found.step, found.share) == (
        candidate.id,
        champion.id,
        Stage.SHADOW,
        -1,
        0.0,
    )
    assert world.version(candidate.id).stage is Stage.SHADOW


def test_a_silent_process_holds_nobody_up(world: World, controller: Controller, clock: FrozenClock) -> None:
    champion = world.champion()
    candidate = world.approve(world.candidate())
    world.load(champion, replica="gone")
    clock.advance(timedelta(seconds=16))
    world.load(champion, candidate)
    controller.reconcile()
    assert open_rollout(world) is not None


def test_an_approval_that_ran_out_must_be_given_again(world: World, controller: Controller, clock: FrozenClock) -> None:
    champion = world.champion()
    candidate = world.approve(world.candidate(), valid_for=HOUR)
    clock.advance(HOUR)
    world.load(champion, candidate)
    controller.reconcile()
    assert open_rollout(world) is None
    assert world.version(candidate.id).stage is Stage.AWAITING_APPROVAL
    world.approve(candidate)
    controller.reconcile()
    assert open_rollout(world) is not None


def test_a_better_candidate_goes_all_the_way(world: World, controller: Controller, clock: FrozenClock) -> None:
    rollout = begin(world, controller)
    seen = [rollout.share]
    for _ in range(10):
        feed(world, rollout, clock)
        controller.reconcile()
        check_champions(world)
        rollout = world.read_rollout(rollout)
        seen.append(rollout.share)
        if rollout.phase is RolloutPhase.SUCCESSFUL:
            break
    assert sorted(set(seen)) == [0.0, 0.25, 0.5, 1.0]
    assert seen == sorted(seen)
    assert "proven better" in rollout.reason
    assert rollout.analysis["accuracy"]["verdict"] == "better"
    found = state(world)
    assert (found.production, found.previous) == (rollout.candidate, rollout.champion)
    assert found.watch_until == clock.now + timedelta(hours=72)
    assert world.version(rollout.champion).stage is Stage.ARCHIVED
    assert [act for act in trail(world, "support") if act.startswith("controller")] == [
        "controller rollout:step",
        "controller rollout:step",
        "controller rollout:promote",
    ]
    controller.reconcile()
    assert world.read_rollout(rollout) == rollout  # it has ended


def test_a_recalibration_goes_live_from_shadow_once_it_is_seen_to_answer_the_same(
    world: World, controller: Controller, clock: FrozenClock
) -> None:
    champion = world.champion()
    made = world.candidate(origin=recalibrated_from(champion), evidence=recalibration_evidence())
    world.load(champion, world.approve(made))
    controller.reconcile()
    rollout = under_way(world)
    units = [f"unit {number}" for number in range(20)]
    seen = [exposure(rollout, unit, at=clock.now) for unit in units]
    told = [
        outcome(rollout, unit, variant=variant, at=clock.now)
        for unit in units
        for variant in (Variant.PRODUCTION, Variant.SHADOW)
    ]
    world.add_evidence(seen, told)
    controller.reconcile()
    rollout = world.read_rollout(rollout)
    assert (rollout.stage, rollout.share) == (Stage.SHADOW, 0.0)
    assert "0 of 20 units whose copies tell what failed" in rollout.reason

    silent = [exposure(rollout, unit, at=clock.now, step=SILENT_STEP, candidate=True) for unit in units]
    world.add_evidence(silent, [])
    controller.reconcile()
    ended = world.read_rollout(rollout)
    assert (ended.phase, ended.share) == (RolloutPhase.SUCCESSFUL, 1.0)
    assert "all 20 labels of 20 shadow units are the champion's" in ended.reason
    assert "+0.2080 nats saved a row" in ended.reason
    assert ended.analysis["agreement"] == {"units": 20, "predictions": 20, "differing": 0}
    assert state(world).production == made.id
    assert not any(act == "controller rollout:step" for act in trail(world, "support"))
    check_champions(world)


def test_without_evidence_nothing_moves(world: World, controller: Controller, clock: FrozenClock) -> None:
    rollout = begin(world, controller)
    for _ in range(5):
        clock.advance(HOUR)
        controller.reconcile()
    found = world.read_rollout(rollout)
    assert (found.phase, found.stage, found.share) == (RolloutPhase.RUNNING, Stage.SHADOW, 0.0)
    assert "0 of 20 labelled units" in found.reason


def test_a_worse_candidate_is_aborted_and_the_champion_serves_on(
    world: World, controller: Controller, clock: FrozenClock
) -> None:
    rollout = drive(world, controller, clock, begin(world, controller), 0.25)
    feed(world, rollout, clock, champion=10, candidate=0, units=120)
    controller.reconcile()
    ended = world.read_rollout(rollout)
    assert (ended.phase, ended.share) == (RolloutPhase.FAILED, 0.0)
    assert "proven less accurate" in ended.reason
    assert world.version(rollout.candidate).stage is Stage.ROLLED_BACK
    assert state(world).production == rollout.champion
    check_champions(world)


def test_a_step_without_verdict_pauses_and_asks_until_a_person_answers(
    world: World, controller: Controller, clock: FrozenClock
) -> None:
    rollout = drive(world, controller, clock, begin(world, controller), 0.25)
    clock.advance(timedelta(hours=49))
    controller.reconcile()
    paused = world.read_rollout(rollout)
    assert (paused.phase, paused.share) == (RolloutPhase.INCONCLUSIVE, 0.25)
    (alert,) = open_alerts(world)
    assert (alert.name, alert.detail["about"]) == ("rollout_inconclusive", rollout.id)
    with world.ledger.read() as connection:
        assert [message.payload["alert"] for message in alerts.due(connection, now=clock.now)] == [alert.name]
    feed(world, paused, clock)
    controller.reconcile()
    assert world.read_rollout(rollout) == paused  # only a person moves it on
    with world.ledger.begin() as connection:
        rollouts.resume(connection, paused, actor="olga", reason="labels come", now=clock.now)
    controller.reconcile()
    assert world.read_rollout(rollout).share == 0.5


def test_the_watch_ends_and_the_replaced_version_goes_cold(
    world: World, controller: Controller, clock: FrozenClock
) -> None:
    rollout = drive(world, controller, clock, begin(world, controller), 1.0)
    clock.advance(timedelta(hours=71))
    controller.reconcile()
    assert state(world).previous == rollout.champion
    clock.advance(HOUR)
    controller.reconcile()
    assert (state(world).previous, state(world).watch_until) == (None, None)
    controller.reconcile()
    assert trail(world, "support").count("controller watch:end") == 1


def test_a_promotion_that_labels_prove_a_mistake_raises_an_alert_until_it_is_undone(
    world: World, controller: Controller, clock: FrozenClock
) -> None:
    rollout = drive(world, controller, clock, begin(world, controller), 1.0)
    promoted = state(world)
    since = [
        outcome(rollout, f"after-{number}", variant=Variant.CANDIDATE, correct=False, at=clock.now)
        for number in range(120)
    ]
    world.add_evidence([], [replace(told, variant=Variant.PRODUCTION, rollout=None, step=-1) for told in since])
    clock.advance(HOUR)
    controller.reconcile()
    (alert,) = open_alerts(world)
    assert alert.name == "promotion_regressed"
    assert "leeway rollback support" in alert.summary
    controller.reconcile()
    assert [found.id for found in open_alerts(world)] == [alert.id]
    with world.ledger.begin() as connection:
        rollouts.restore_previous(connection, "support", actor="olga", reason="it is worse", now=clock.now)
    controller.reconcile()
    assert open_alerts(world) == []
    assert state(world).production == promoted.previous
    check_champions(world)


def test_an_alert_about_a_version_that_no_longer_serves_is_closed(
    world: World, controller: Controller, clock: FrozenClock
) -> None:
    rollout = drive(world, controller, clock, begin(world, controller), 1.0)
    world.alert(world.version(rollout.champion), name="promotion_regressed")
    controller.reconcile()
    assert open_alerts(world) == []


def test_a_second_approved_candidate_waits_for_the_first(world: World, controller: Controller) -> None:
    rollout = begin(world, controller)
    champion, first = world.version(rollout.champion), world.version(rollout.candidate)
    second: ModelVersion = world.approve(world.candidate())
    world.load(champion, first, second)
    controller.reconcile()
    assert world.version(second.id).stage is Stage.APPROVED
    with world.ledger.begin() as connection:
        rollouts.abort(connection, world.read_rollout(rollout), actor="olga", reason="stop", now=world.clock())
    controller.reconcile()
    assert under_way(world).candidate == second.id


def test_an_approval_for_another_bundle_does_not_begin_a_rollout(world: World, controller: Controller) -> None:
    champion = world.champion()
    candidate = world.approve(world.candidate())
    with world.ledger.begin() as connection:
        connection.execute(
            version_table.update().where(version_table.c.id == candidate.id).values(bundle_hash="f" * 64)
        )
        approval = approvals.latest(connection, candidate)
        assert approval is not None
    world.load(champion, candidate)
    controller.reconcile()
    assert open_rollout(world) is None
    assert world.version(candidate.id).stage is Stage.AWAITING_APPROVAL
