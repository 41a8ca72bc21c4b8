"""An episode from its first firing to its resolution, each change of it with a message that leaves at least once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection

from monitoring.core.ledger import alerts, audit
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import Alert, Severity
from tests.contract.people import NOON
from tests.contract.test_database import everything

MINUTE = timedelta(minutes=1)


def fire(connection: Connection, name: str = "drift", *, model: str = "support", now: datetime = NOON) -> Alert | None:
    return alerts.fire(
        connection,
        model=model,
        version="v1",
        name=name,
        severity=Severity.CRITICAL,
        summary="the traffic has changed",
        detail={"n_seen": 1841},
        now=now,
    )


def fired(connection: Connection, name: str = "drift", *, model: str = "support", now: datetime = NOON) -> Alert:
    alert = fire(connection, name, model=model, now=now)
    assert alert is not None
    return alert


def test_a_condition_fires_once_until_it_is_resolved(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        alert = fired(connection)
        assert fire(connection) is None
        fired(connection, "quality", now=NOON + MINUTE)
        fired(connection, model="triage", now=NOON + 2 * MINUTE)
        alerts.resolve(connection, alert, reason="it is over", now=NOON + MINUTE)
        again = fired(connection, now=NOON + 3 * MINUTE)
        assert alerts.find(connection, model="support", open_only=True)[0] == again
        assert len(alerts.find(connection)) == 4
        assert len(alerts.find(connection, open_only=True)) == 3
        assert alerts.count_episodes(connection) == {
            ("support", "drift"): 2,
            ("support", "quality"): 1,
            ("triage", "drift"): 1,
        }


def test_an_episode_comes_back_as_it_was_fired(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        alert = fired(connection)
        assert alerts.find(connection) == [alert]
        alerts.resolve(connection, alert, reason="it is over", now=NOON + MINUTE)
        [found] = alerts.find(connection)
        assert found.resolved_at == NOON + MINUTE


def test_each_change_is_announced_and_recorded_once(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        alert = fired(connection)
        fire(connection)
        for _ in range(2):
            alerts.resolve(connection, alert, reason="it is over", now=NOON + MINUTE)
        firing, resolved = alerts.due(connection, now=NOON + MINUTE)
        told = [event.action for event in audit.events(connection, subject="support")]
    assert told == ["alert:resolved", "alert:firing"]
    assert (firing.payload["status"], resolved.payload["status"]) == ("firing", "resolved")
    assert firing.payload["id"] == resolved.payload["id"] == alert.id
    assert (firing.payload["severity"], firing.payload["detail"]) == ("critical", {"n_seen": 1841})
    assert resolved.payload["reason"] == "it is over"


def test_an_episode_that_is_undone_leaves_no_message(ledger: Ledger) -> None:
    def die_half_way() -> None:
        with ledger.begin() as connection:
            fire(connection)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        die_half_way()
    assert everything(ledger) == {}


def test_a_message_is_tried_until_it_arrives(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        fire(connection)
        [message] = alerts.due(connection, now=NOON)
        tried = {"slack": {"attempts": 1}}
        later = NOON + MINUTE
        alerts.record_attempt(
            connection, message, receivers=tried, attempts=1, next_attempt_at=later, error="x" * 900, now=NOON
        )
        assert alerts.due(connection, now=NOON + MINUTE / 2) == []
        assert alerts.count_undelivered(connection) == 1
        [again] = alerts.due(connection, now=later)
        assert (again.id, again.attempts, again.receivers, again.created_at) == (message.id, 1, tried, NOON)
        alerts.record_attempt(connection, again, receivers={}, attempts=2, next_attempt_at=None, error=None, now=later)
        assert alerts.due(connection, now=NOON + 60 * MINUTE) == []
        assert alerts.count_undelivered(connection) == 0


def test_messages_leave_in_the_order_of_what_happened(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        for number in range(5):
            fire(connection, f"alert {number}", now=NOON + number * MINUTE)
        names = [message.payload["alert"] for message in alerts.due(connection, now=NOON + 60 * MINUTE, limit=3)]
    assert names == ["alert 0", "alert 1", "alert 2"]
