from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.errors import MisConfigured
from monitoring.core.ledger import ticks
from monitoring.core.ledger.database import Ledger
from monitoring.scheduler import Routine, Scheduler, floor_time
from tests.conftest import FrozenClock

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
steps = st.timedeltas(timedelta(milliseconds=1), timedelta(days=400))
LEASE = timedelta(seconds=30)


@given(moments, steps)
def test_a_window_holds_the_moment_and_is_one_step_long(moment: datetime, step: timedelta) -> None:
    start = floor_time(moment, step)
    assert start <= moment < start + step
    assert floor_time(start, step) == start


def test_clocks_that_fire_at_different_times_ask_for_the_same_window() -> None:
    routine = Routine("watch", timedelta(seconds=10), print)
    early, late = (datetime(2026, 1, 5, 12, 0, second, tzinfo=UTC) for second in (0, 9))
    assert routine.window(early) == routine.window(late)
    assert routine.trigger("support") == "watch:support"
    assert routine.trigger("") == "watch"


@pytest.mark.parametrize("cron", ["every monday", "0 3 * *", "99 3 * * 1"])
def test_a_cron_expression_that_cannot_be_read_is_named(cron: str) -> None:
    with pytest.raises(MisConfigured, match="cron expression") as raised:
        Scheduler([Routine("schedule", cron, print)], ledger=_ledger(), clock=_never, owner="test")
    assert raised.value.field == "retrain.cron"


def test_the_newest_window_is_done_and_older_ones_are_superseded(clock: FrozenClock) -> None:
    ledger = _ledger()
    with ledger.begin() as connection:
        for seconds in (0, 10, 20):
            ticks.insert(connection, "watch:support", clock.now + timedelta(seconds=seconds))
        tick = ticks.claim(connection, owner="one", lasts=LEASE, now=clock.now)
        assert tick is not None
        assert tick.window == clock.now + timedelta(seconds=20)
        assert not ticks.waits(connection, now=clock.now)
        assert ticks.finish(connection, tick, now=clock.now)
        assert ticks.last_finished(connection) == {"watch:support": clock.now}


def test_a_trigger_under_way_is_not_done_twice_until_its_lease_runs_out(clock: FrozenClock) -> None:
    ledger = _ledger()
    with ledger.begin() as connection:
        ticks.insert(connection, "ship", clock.now)
        first = ticks.claim(connection, owner="one", lasts=LEASE, now=clock.now)
        ticks.insert(connection, "ship", clock.now + timedelta(seconds=2))
        assert first is not None
        assert ticks.claim(connection, owner="two", lasts=LEASE, now=clock.now) is None
        assert ticks.renew(connection, first, lasts=2 * LEASE, now=clock.now)
        assert ticks.claim(connection, owner="two", lasts=LEASE, now=clock.advance(LEASE)) is None
        second = ticks.claim(connection, owner="two", lasts=LEASE, now=clock.advance(LEASE))
        assert second is not None
        assert not ticks.renew(connection, first, lasts=LEASE, now=clock.now)
        assert not ticks.finish(connection, first, now=clock.now)


def _ledger() -> Ledger:
    ledger = Ledger.open("sqlite://")
    ledger.upgrade()
    return ledger


def _never() -> datetime:
    raise AssertionError("nothing was started")
