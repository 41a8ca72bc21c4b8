"""The trail is one chain: whatever is altered, removed or slipped in afterwards shows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, select, update

from monitoring.core.ledger import audit
from monitoring.core.ledger.database import Ledger
from monitoring.core.tables import audit as table
from tests.contract.people import NOON
from tests.contract.race import race

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)


def record(connection: Connection, number: int = 0, *, detail: Mapping[str, Any] | None = None) -> None:
    audit.record(
        connection,
        at=NOON + timedelta(seconds=number),
        actor="ada",
        action="test",
        subject=f"subject {number % 2}",
        reason=f"reason {number}",
        detail=detail,
    )


@pytest.fixture
def trail(ledger: Ledger) -> Ledger:
    """Six events."""
    with ledger.begin() as connection:
        for number in range(6):
            record(connection, number, detail={"number": number})
    return ledger


def test_events_are_chained_and_found_newest_first(trail: Ledger) -> None:
    with trail.read() as connection:
        events = audit.events(connection)
        assert [event.sequence for event in events] == [6, 5, 4, 3, 2, 1]
        assert all(newer.previous_hash == older.hash for newer, older in pairwise(events))
        assert events[-1].previous_hash == audit.GENESIS
        assert [event.sequence for event in audit.events(connection, subject="subject 1", limit=2)] == [6, 4]
        assert audit.first_broken_link(connection) is None


def test_an_empty_trail_is_whole(ledger: Ledger) -> None:
    with ledger.read() as connection:
        assert audit.first_broken_link(connection) is None


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "eve"},
        {"action": "other"},
        {"subject": "other"},
        {"reason": ""},
        {"detail": {"number": 99}},
        {"at": NOON},
        {"hash": "0" * 64},
        {"previous_hash": "0" * 64},
        {"sequence": 99},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_altered_event_shows(trail: Ledger, change: dict[str, Any]) -> None:
    with trail.begin() as connection:
        connection.execute(update(table).where(table.c.sequence == 3).values(**change))
        assert audit.first_broken_link(connection) == (4 if "sequence" in change else 3)


def test_a_removed_event_shows(trail: Ledger) -> None:
    with trail.begin() as connection:
        connection.execute(delete(table).where(table.c.sequence == 3))
        assert audit.first_broken_link(connection) == 4


def test_an_event_slipped_in_shows(trail: Ledger) -> None:
    with trail.begin() as connection:
        copy = connection.execute(select(table).where(table.c.sequence == 6)).mappings().one()
        connection.execute(insert(table).values(**(dict(copy) | {"sequence": 7})))
        assert audit.first_broken_link(connection) == 7


def test_an_altered_event_shows_even_when_its_own_hash_is_made_anew(trail: Ledger) -> None:
    with trail.begin() as connection:
        event = next(item for item in audit.events(connection) if item.sequence == 3)
        forged = audit._digest(audit.AuditEvent(**(vars(event) | {"actor": "eve"})))
        connection.execute(update(table).where(table.c.sequence == 3).values(actor="eve", hash=forged))
        assert audit.first_broken_link(connection) == 4


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(detail=st.dictionaries(st.text("abc", max_size=3), json_values, max_size=3))
def test_the_chain_is_whole_whatever_an_event_tells(ledger: Ledger, detail: dict[str, Any]) -> None:
    with ledger.begin() as connection:
        record(connection, detail=detail)
        assert audit.first_broken_link(connection) is None


def test_an_event_told_in_another_time_zone_is_the_same_moment(ledger: Ledger) -> None:
    east = NOON.astimezone(timezone(timedelta(hours=2)))
    with ledger.begin() as connection:
        audit.record(connection, at=east, actor="ada", action="test", subject="s", reason="r")
        assert audit.first_broken_link(connection) is None


def test_writers_that_race_make_one_chain(ledger: Ledger) -> None:
    def write(number: int) -> None:
        for _ in range(5):
            with ledger.begin() as connection:
                record(connection, number)

    assert race(write, 4) == [None] * 4
    with ledger.read() as connection:
        assert len(audit.events(connection)) == 20
        assert audit.first_broken_link(connection) is None
