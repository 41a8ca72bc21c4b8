"""What crashes, rivals and bad luck cannot break."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from monitoring.core.ledger import leases
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import RolloutPhase, Stage
from service.analysis import read_rollout
from service.controller import LEASE, LEASE_LASTS, Controller
from tests.conftest import FrozenClock
from tests.exposures import exposure
from tests.rolling import (
    HOUR,
    begin,
    check_champions,
    controller_of,
    drive,
    feed,
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


class Crash(BaseException):
    """The process dies here."""


def test_of_two_controllers_one_acts_and_the_other_takes_over(world: World, clock: FrozenClock) -> None:
    first, second = controller_of(world, "one"), controller_of(world, "two")
    champion = world.champion()
    first.reconcile()
    candidate = world.approve(world.candidate())
    world.load(champion, candidate)
    second.reconcile()
    assert open_rollout(world) is None  # the lease is the first one's
    clock.advance(LEASE_LASTS)
    world.load(champion, candidate)
    second.reconcile()
    feed(world, under_way(world), clock)
    clock.now -= HOUR  # back to where the second's lease is fresh
    first.reconcile()
    assert under_way(world).stage is Stage.SHADOW


def test_a_controller_that_lost_its_lease_writes_nothing(
    world: World, controller: Controller, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = begin(world, controller)
    feed(world, rollout, clock)

    def slowly(*arguments: Any, **named: Any) -> Any:
        """While the evidence is being read, the lease runs out and another process takes it."""
        now = clock.advance(LEASE_LASTS)
        with world.ledger.begin() as connection:
            assert leases.acquire(connection, LEASE, owner="rival", lasts=LEASE_LASTS, now=now) is not None
        return read_rollout(*arguments, **named)

    monkeypatch.setattr("service.controller.read_rollout", slowly)
    controller.reconcile()
    assert world.read_rollout(rollout) == rollout


def test_stopping_lets_another_process_take_over_at_once(world: World) -> None:
    first = controller_of(world, "one")
    first.reconcile()
    first.start()
    first.stop()
    champion = world.champion()
    world.load(champion, world.approve(world.candidate()))
    controller_of(world, "two").reconcile()
    assert open_rollout(world) is not None


@contextmanager
def crash_at(statement: int) -> Iterator[list[str]]:
    """Die just before the n-th statement; the statements before it."""
    executed: list[str] = []

    def before(*event_arguments: Any) -> None:
        executed.append(event_arguments[2])
        if len(executed) == statement:
            raise Crash

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield executed
    finally:
        event.remove(Engine, "before_cursor_execute", before)


def test_a_promotion_killed_at_any_statement_is_whole_or_has_not_happened(
    world: World, controller: Controller, clock: FrozenClock, tmp_path: Path
) -> None:
    rollout = drive(world, controller, clock, begin(world, controller), 0.5)
    feed(world, rollout, clock)
    world.ledger.close()
    killed = 0
    for statement in range(1, 200):
        copy = tmp_path / f"killed-{statement}.db"
        shutil.copy(tmp_path / "ledger.db", copy)
        now = FrozenClock(clock.now)
        copied = World(Ledger.open(f"sqlite:///{copy}"), now)
        try:
            with crash_at(statement):
                controller_of(copied, "killed").reconcile()
        except Crash:
            killed += 1
        else:
            break
        check_champions(copied)
        expected = copied.read_rollout(rollout).phase is RolloutPhase.SUCCESSFUL
        assert (state(copied).production == rollout.candidate) is expected
        now.advance(LEASE_LASTS)
        controller_of(copied, "next").reconcile()
        check_champions(copied)
        assert copied.read_rollout(rollout).phase is RolloutPhase.SUCCESSFUL
        assert state(copied).production == rollout.candidate
        assert trail(copied, "support").count("controller rollout:promote") == 1
        copied.ledger.close()
        copy.unlink()
    assert killed > 20


def test_trouble_with_one_model_does_not_keep_the_others_waiting(
    world: World, controller: Controller, clock: FrozenClock, caplog: pytest.LogCaptureFixture
) -> None:
    broken = drive(world, controller, clock, begin(world, controller, model="broken"), 0.25)
    sound = begin(world, controller)
    world.add_evidence([exposure(broken, "impossible", share=0.0, at=clock.now - 2 * HOUR)], [])
    feed(world, sound, clock)
    controller.reconcile()
    assert world.read_rollout(sound).share == 0.25
    assert world.read_rollout(broken).share == 0.25
    assert "the rollout of broken failed" in caplog.text
