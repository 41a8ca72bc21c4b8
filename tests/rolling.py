"""Rollouts under way on a ledger, fed with evidence and driven by a controller."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from monitoring.core.ledger import alerts, audit, rollouts, versions
from monitoring.core.settings import RolloutSettings, Settings
from monitoring.core.tables import models
from monitoring.core.tables import versions as version_table
from monitoring.core.types import Alert, ModelState, Rollout, Stage, Variant
from service.controller import Controller
from tests.conftest import FrozenClock
from tests.exposures import exposure, outcome
from tests.world import World

HOUR = timedelta(hours=1)
SETTINGS = Settings(
    rollout=RolloutSettings(
        steps=(0.25, 0.5),
        shadow_min_units=20,
        step_min_units=10,
        maturation_seconds=3600,
        max_step_hours=48,
        controller_seconds=0.01,
    )
)


def controller_of(world: World, owner: str = "replica-1") -> Controller:
    return Controller(world.ledger, SETTINGS, owner=owner, clock=world.clock)


def begin(world: World, controller: Controller, *, model: str = "support") -> Rollout:
    """A champion, and a candidate that is approved and loaded: its rollout begins."""
    champion = world.champion(model=model)
    candidate = world.approve(world.candidate(model=model))
    world.load(champion, candidate)
    controller.reconcile()
    return under_way(world, model)


def open_rollout(world: World, model: str = "support") -> Rollout | None:
    with world.ledger.read() as connection:
        return rollouts.open_rollout(connection, model)


def under_way(world: World, model: str = "support") -> Rollout:
    found = open_rollout(world, model)
    assert found is not None
    return found


def state(world: World, model: str = "support") -> ModelState:
    with world.ledger.read() as connection:
        return versions.model_state(connection, model)


def open_alerts(world: World) -> list[Alert]:
    with world.ledger.read() as connection:
        return alerts.find(connection, open_only=True)


def trail(world: World, subject: str) -> list[str]:
    with world.ledger.read() as connection:
        return [f"{entry.actor} {entry.action}" for entry in reversed(audit.events(connection, subject=subject))]


def feed(
    world: World, rollout: Rollout, clock: FrozenClock, *, champion: int = 2, candidate: int = 10, units: int = 60
) -> None:
    """Units of the present step and their labels, matured by now. Of every ten answers so many are right."""
    at, seen, told = clock.now, [], []
    clock.advance(HOUR)
    for number in range(units):
        unit = f"{rollout.model}-{rollout.step}-{number}"
        meets = rollout.stage is Stage.AB_TEST and (number * 37) % 100 < 100 * rollout.share
        seen.append(exposure(rollout, unit, candidate=meets, at=at))
        sides = {Variant.PRODUCTION: champion, Variant.SHADOW: candidate}
        if rollout.stage is Stage.AB_TEST:
            sides = {Variant.CANDIDATE: candidate} if meets else {Variant.PRODUCTION: champion}
        told += [
            outcome(rollout, unit, variant=variant, correct=(number * 7) % 10 < right, at=at)
            for variant, right in sides.items()
        ]
    world.add_evidence(seen, told)


def drive(world: World, controller: Controller, clock: FrozenClock, rollout: Rollout, until: Stage | float) -> Rollout:
    """Feed evidence of a better candidate until a stage or a share is reached."""
    for _ in range(10):
        if until in (rollout.stage, rollout.share):
            return rollout
        feed(world, rollout, clock)
        controller.reconcile()
        rollout = world.read_rollout(rollout)
    raise AssertionError(f"{until} was not reached: {rollout.reason}")


def check_champions(world: World) -> None:
    """Each model that ever served has exactly one champion, and the trail is whole."""
    with world.ledger.read() as connection:
        for row in connection.execute(select(models.c.name, models.c.production)):
            champions = connection.execute(
                select(version_table.c.id).where(
                    version_table.c.model == row.name, version_table.c.stage == Stage.PRODUCTION
                )
            )
            assert [found.id for found in champions] == [row.production]
        assert audit.first_broken_link(connection) is None
