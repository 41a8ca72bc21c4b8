"""The audit trail: who did what to which thing, and why; each event is chained to the one before by its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, text

from monitoring.core.tables import audit

GENESIS = "0" * 64


@dataclass(frozen=True)
class AuditEvent:
    """One line of the trail."""

    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    detail: Mapping[str, Any]
    previous_hash: str
    hash: str


def await_turn(connection: Connection) -> None:
    """Queue behind the other transactions that write events, until this one ends.

    What changes several rows calls this first: two that had begun in different orders would block each other for good.
    """
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        connection.execute(text("SELECT pg_advisory_xact_lock(7238092)"))


def record(
    connection: Connection,
    *,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append an event inside the caller's transaction: the act and its record stand or fall together."""
    await_turn(connection)
    last = connection.execute(select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1)).first()
    sequence, previous = (last.sequence + 1, last.hash) if last else (1, GENESIS)
    event = AuditEvent(sequence, at, actor, action, subject, reason, dict(detail or {}), previous, "")
    connection.execute(insert(audit).values(**(vars(event) | {"hash": _digest(event)})))


def events(connection: Connection, *, subject: str | None = None, limit: int = 200) -> list[AuditEvent]:
    """The newest events first, of one subject if given."""
    query = select(audit).order_by(audit.c.sequence.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    return [AuditEvent(**row) for row in connection.execute(query).mappings()]


def first_broken_link(connection: Connection) -> int | None:
    """The sequence of the first event that was altered, removed or inserted afterwards; None if the chain is whole."""
    previous, expected = GENESIS, 1
    for row in connection.execute(select(audit).order_by(audit.c.sequence)).mappings():
        event = AuditEvent(**row)
        if event.sequence != expected or event.previous_hash != previous or event.hash != _digest(event):
            return event.sequence
        previous, expected = event.hash, expected + 1
    return None


def _digest(event: AuditEvent) -> str:
    content = vars(event) | {"at": event.at.astimezone(UTC).isoformat(), "hash": ""}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
