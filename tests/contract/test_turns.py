"""Taking turns: leases that one holds at a time, ticks that are done once, replicas that are alive."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring.core.ledger import leases, replicas, ticks
from monitoring.core.ledger.database import Ledger
from monitoring.core.ledger.ticks import Tick
from tests.contract.people import NOON
from tests.contract.race import race

LEASE = timedelta(seconds=30)
MINUTE = timedelta(minutes=1)


def test_a_lease_has_one_owner_until_it_runs_out(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        assert leases.acquire(connection, "controller", owner="a", lasts=LEASE, now=NOON) == 1
        assert leases.acquire(connection, "controller", owner="b", lasts=LEASE, now=NOON) is None
        assert leases.acquire(connection, "another", owner="b", lasts=LEASE, now=NOON) == 1
        assert leases.acquire(connection, "controller", owner="a", lasts=LEASE, now=NOON + LEASE / 2) == 1
        assert leases.acquire(connection, "controller", owner="b", lasts=LEASE, now=NOON + LEASE) is None
        assert leases.acquire(connection, "controller", owner="b", lasts=LEASE, now=NOON + 1.5 * LEASE) == 2
        assert leases.acquire(connection, "controller", owner="a", lasts=LEASE, now=NOON + 1.5 * LEASE) is None


def test_who_lost_its_lease_without_noticing_is_unmasked(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        leases.acquire(connection, "controller", owner="a", lasts=LEASE, now=NOON)
        assert leases.holds(connection, "controller", owner="a", fence=1, now=NOON)
        assert not leases.holds(connection, "controller", owner="a", fence=1, now=NOON + LEASE)
        assert leases.acquire(connection, "controller", owner="a", lasts=LEASE, now=NOON + LEASE) == 2
        assert not leases.holds(connection, "controller", owner="a", fence=1, now=NOON + LEASE)
        assert not leases.holds(connection, "controller", owner="b", fence=2, now=NOON + LEASE)
        assert not leases.holds(connection, "absent", owner="a", fence=1, now=NOON)


def test_a_released_lease_is_free_at_once_but_only_its_owner_may_release_it(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        leases.acquire(connection, "controller", owner="a", lasts=LEASE, now=NOON)
        leases.release(connection, "controller", owner="b", now=NOON)
        assert leases.acquire(connection, "controller", owner="b", lasts=LEASE, now=NOON) is None
        leases.release(connection, "controller", owner="a", now=NOON)
        assert leases.acquire(connection, "controller", owner="b", lasts=LEASE, now=NOON) == 2


def test_of_many_who_reach_for_a_lease_one_gets_it(ledger: Ledger) -> None:
    def reach(number: int) -> int | None:
        with ledger.begin() as connection:
            return leases.acquire(connection, "controller", owner=str(number), lasts=LEASE, now=NOON)

    assert sorted(race(reach, 4), key=str) == [1, None, None, None]


def insert(ledger: Ledger, trigger: str, *windows: int) -> None:
    with ledger.begin() as connection:
        for window in windows:
            assert ticks.insert(connection, trigger, NOON + window * MINUTE)


def claim(ledger: Ledger, owner: str = "one", *, after: timedelta = timedelta(0)) -> Tick | None:
    with ledger.begin() as connection:
        return ticks.claim(connection, owner=owner, lasts=LEASE, now=NOON + after)


def test_a_window_is_inserted_once_however_many_clocks_there_are(ledger: Ledger) -> None:
    def tick(_: int) -> bool:
        with ledger.begin() as connection:
            return ticks.insert(connection, "ship", NOON)

    assert sorted(map(bool, race(tick, 4))) == [False, False, False, True]


def test_only_the_newest_window_of_the_longest_waiting_trigger_is_done(ledger: Ledger) -> None:
    insert(ledger, "watch:support", 1, 2)
    insert(ledger, "ship", 0, 3)
    first, second, third = claim(ledger), claim(ledger), claim(ledger)
    assert first is not None
    assert second is not None
    assert (first.trigger, first.window) == ("ship", NOON + 3 * MINUTE)
    assert (second.trigger, second.window) == ("watch:support", NOON + 2 * MINUTE)
    assert third is None
    with ledger.read() as connection:
        assert not ticks.waits(connection, now=NOON)


def test_a_trigger_is_done_by_one_worker_at_a_time(ledger: Ledger) -> None:
    insert(ledger, "ship", 0)
    doing = claim(ledger)
    assert doing is not None
    insert(ledger, "ship", 1)
    assert claim(ledger, "two") is None
    with ledger.begin() as connection:
        assert ticks.finish(connection, doing, now=NOON)
        assert ticks.waits(connection, now=NOON)
    following = claim(ledger, "two")
    assert following is not None
    assert following.window == NOON + MINUTE


def test_workers_that_claim_at_once_never_share_a_run(ledger: Ledger) -> None:
    insert(ledger, "ship", 0)
    insert(ledger, "watch:support", 0)
    found = [tick.trigger for tick in race(lambda number: claim(ledger, str(number)), 4) if isinstance(tick, Tick)]
    assert sorted(found) == ["ship", "watch:support"]


def test_what_belongs_to_a_host_is_done_there_alone(ledger: Ledger) -> None:
    insert(ledger, "ship:a", 0)
    insert(ledger, "ship:b", 1)
    insert(ledger, "shipment:c", 2)  # of a routine that is everybody's
    here = {"ship": ["ship:b"]}
    with ledger.begin() as connection:
        claimed = [ticks.claim(connection, owner="b", lasts=LEASE, now=NOON, local=here) for _ in range(3)]
        assert [tick and tick.trigger for tick in claimed] == ["ship:b", "shipment:c", None]
        assert not ticks.waits(connection, now=NOON, local=here)
        assert ticks.waits(connection, now=NOON, local={"ship": ["ship:a"]})
        ticks.drop(connection, "ship:a")
        assert not ticks.waits(connection, now=NOON, local={"ship": ["ship:a"]})


def test_a_run_whose_worker_is_silent_is_taken_over(ledger: Ledger) -> None:
    insert(ledger, "ship", 0)
    lost = claim(ledger)
    assert lost is not None
    with ledger.begin() as connection:
        assert ticks.renew(connection, lost, lasts=LEASE, now=NOON + LEASE / 2)
    assert claim(ledger, "two", after=LEASE) is None
    taken = claim(ledger, "two", after=1.5 * LEASE)
    assert taken is not None
    assert (taken.id, taken.fence) == (lost.id, lost.fence + 1)
    with ledger.begin() as connection:
        assert not ticks.renew(connection, lost, lasts=LEASE, now=NOON + 1.5 * LEASE)
        assert not ticks.finish(connection, lost, now=NOON + 1.5 * LEASE)
        assert ticks.finish(connection, taken, now=NOON + 1.5 * LEASE)
        assert not ticks.finish(connection, taken, now=NOON + 1.5 * LEASE)


def test_what_was_last_done_counts_neither_failures_nor_superseded_runs(ledger: Ledger) -> None:
    insert(ledger, "ship", 0, 1)
    insert(ledger, "maintain", 0)
    with ledger.begin() as connection:
        for error, after in ((None, LEASE), ("no space", 2 * LEASE)):
            tick = ticks.claim(connection, owner="one", lasts=LEASE, now=NOON)
            assert tick is not None
            ticks.finish(connection, tick, now=NOON + after, error=error)
        assert ticks.last_finished(connection) == {"maintain": NOON + LEASE}
        ticks.forget(connection, before=NOON + 2 * LEASE)
        assert ticks.last_finished(connection) == {}
        assert not ticks.insert(connection, "ship", NOON + MINUTE), "what is not old is not forgotten"


def test_a_version_is_loaded_when_every_live_replica_has_it(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        assert not replicas.all_have_loaded(connection, "v1", now=NOON)
        replicas.report(connection, "a", loaded=["v1", "v2"], now=NOON)
        replicas.report(connection, "b", loaded=["v2"], now=NOON)
        assert replicas.all_have_loaded(connection, "v2", now=NOON)
        assert not replicas.all_have_loaded(connection, "v1", now=NOON)
        replicas.report(connection, "b", loaded=["v1"], now=NOON)
        assert replicas.all_have_loaded(connection, "v1", now=NOON)
        assert replicas.alive(connection, now=NOON) == {"a": frozenset({"v1", "v2"}), "b": frozenset({"v1"})}


@pytest.mark.parametrize("how", ["silent", "left"])
def test_a_replica_that_is_gone_is_not_waited_for(ledger: Ledger, how: str) -> None:
    later = NOON + replicas.SILENT_AFTER + timedelta(microseconds=1)
    with ledger.begin() as connection:
        replicas.report(connection, "gone", loaded=[], now=later if how == "left" else NOON)
        replicas.report(connection, "here", loaded=["v1"], now=later)
        if how == "left":
            replicas.leave(connection, "gone")
        assert replicas.all_have_loaded(connection, "v1", now=later)
        assert replicas.alive(connection, now=later + 30 * replicas.SILENT_AFTER) == {}
