"""Alert episodes, and the outbox through which each change of them leaves at least once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from monitoring.core.ids import new_id
from monitoring.core.ledger import audit
from monitoring.core.tables import alerts, outbox
from monitoring.core.types import Alert, Severity


@dataclass(frozen=True)
class Notification:
    """One message waiting to leave. `receivers`: each one's account of it, as `monitoring.deliveries` keeps it."""

    id: str
    payload: Mapping[str, Any]
    attempts: int
    created_at: datetime
    receivers: Mapping[str, Mapping[str, Any]]


def fire(
    connection: Connection,
    *,
    model: str,
    version: str,
    name: str,
    severity: Severity,
    summary: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> Alert | None:
    """Open an episode, with its notification; None while one of that name is open already."""
    query = select(alerts.c.id).where(alerts.c.model == model, alerts.c.name == name, alerts.c.resolved_at.is_(None))
    if connection.execute(query).first() is not None:
        return None
    alert = Alert(new_id(), model, name, severity, summary, dict(detail), now, None)
    connection.execute(insert(alerts).values(**vars(alert), version=version))
    _announce(connection, alert, "firing", now)
    return alert


def resolve(connection: Connection, alert: Alert, *, reason: str, now: datetime) -> None:
    """Close an episode, with its notification."""
    done = connection.execute(
        update(alerts).where(alerts.c.id == alert.id, alerts.c.resolved_at.is_(None)).values(resolved_at=now)
    )
    if done.rowcount:
        _announce(connection, alert, "resolved", now, reason)


def find(connection: Connection, *, model: str | None = None, open_only: bool = False, limit: int = 100) -> list[Alert]:
    """Episodes, newest first."""
    query = select(alerts).order_by(alerts.c.started_at.desc()).limit(limit)
    if model is not None:
        query = query.where(alerts.c.model == model)
    if open_only:
        query = query.where(alerts.c.resolved_at.is_(None))
    return [_alert(row) for row in connection.execute(query)]


def open_kinds(connection: Connection) -> list[tuple[str, str, str]]:
    """(model, name, severity) of all open episodes, however many there are."""
    query = select(alerts.c.model, alerts.c.name, alerts.c.severity).where(alerts.c.resolved_at.is_(None)).distinct()
    return [(row.model, row.name, row.severity) for row in connection.execute(query.order_by(*query.selected_columns))]


def count_episodes(connection: Connection) -> dict[tuple[str, str], int]:
    """Episodes so far, open ones included, by model and name."""
    query = select(alerts.c.model, alerts.c.name, func.count()).group_by(alerts.c.model, alerts.c.name)
    return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}


def count_undelivered(connection: Connection) -> int:
    """Notifications that have not arrived yet."""
    query = select(func.count()).select_from(outbox).where(outbox.c.delivered_at.is_(None))
    return int(connection.execute(query).scalar_one())


def due(connection: Connection, *, now: datetime, limit: int = 100) -> list[Notification]:
    """Notifications that should be tried now, oldest first."""
    query = (
        select(outbox)
        .where(outbox.c.delivered_at.is_(None), outbox.c.next_attempt_at <= now)
        .order_by(outbox.c.created_at)
        .limit(limit)
    )
    rows = connection.execute(query)
    return [Notification(row.id, row.payload, row.attempts, row.created_at, row.receivers) for row in rows]


def record_attempt(
    connection: Connection,
    notification: Notification,
    *,
    receivers: Mapping[str, Mapping[str, Any]],
    attempts: int,
    next_attempt_at: datetime | None,
    error: str | None,
    now: datetime,
) -> None:
    """Keep each receiver's account, and when to try again; without a next attempt it has arrived."""
    values = {
        "receivers": dict(receivers),
        "attempts": attempts,
        "error": error and error[:500],
        **({"delivered_at": now} if next_attempt_at is None else {"next_attempt_at": next_attempt_at}),
    }
    connection.execute(update(outbox).where(outbox.c.id == notification.id).values(**values))


def _announce(connection: Connection, alert: Alert, status: str, now: datetime, reason: str = "") -> None:
    payload = {
        "status": status,
        "alert": alert.name,
        "model": alert.model,
        "severity": alert.severity,
        "summary": alert.summary,
        "reason": reason,
        "detail": dict(alert.detail),
        "started_at": alert.started_at.isoformat(),
        "at": now.isoformat(),
        "id": alert.id,
    }
    message = {"id": new_id(), "payload": payload, "attempts": 0, "next_attempt_at": now, "created_at": now}
    connection.execute(insert(outbox).values(**message, receivers={}))
    audit.record(
        connection,
        at=now,
        actor="monitor",
        action=f"alert:{status}",
        subject=alert.model,
        reason=reason or alert.summary,
        detail={"alert": alert.id, "name": alert.name},
    )


def _alert(row: Row[Any]) -> Alert:
    values = {name: row._mapping[name] for name in Alert.__dataclass_fields__}
    return Alert(**(values | {"severity": Severity(row.severity)}))
