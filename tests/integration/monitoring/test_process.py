"""Keeping house: what fails stops nothing else, and is told. Ending: nothing that was answered stays behind."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from monitoring import process
from monitoring.core.ledger import profiles, ticks
from monitoring.core.tables import ticks as ticks_table
from monitoring.process import Routines
from tests.integration.core.prediction_rows import append, numbers_in, open_writer
from tests.integration.monitoring.world import World

DAY = timedelta(days=1)


def test_a_step_that_fails_stops_no_other_and_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.serve(world.champion(), 50)
    with world.ledger.begin() as connection:
        ticks.insert(connection, "ship", world.clock())
        tick = ticks.claim(connection, owner="a", lasts=DAY, now=world.clock())
        assert tick is not None
        ticks.finish(connection, tick, now=world.clock(), error=None)
    world.clock.advance((world.settings.log.retention_days + 2) * DAY)

    def broken(*_: object, **__: object) -> int:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(profiles, "fold_days", broken)
    [maintain] = [one for one in Routines(world.settings, world.ledger, world.clock).all() if one.name == "maintain"]
    with pytest.raises(ExceptionGroup, match="left undone: window profiles into days") as told:
        maintain.do("")
    assert [str(failure) for failure in told.value.exceptions] == ["no such thing"]
    with world.ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(ticks_table)).scalar_one() == 0
    assert len(world.log.read()) == 0


def test_what_was_answered_last_is_shipped_in_the_end(world: World) -> None:
    spool = open_writer(world.settings.spool_dir, "last")
    append(spool, range(3))
    Routines(world.settings, world.ledger, world.clock).ship_rest()
    assert numbers_in(world.log) == [0, 1, 2]
    spool.close()


def test_storage_that_is_away_stops_no_ending(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    routines = Routines(world.settings, world.ledger, world.clock)

    def away(*_: object) -> None:
        raise OSError("no route to storage")

    monkeypatch.setattr(process, "ship", away)
    routines.ship_rest()
