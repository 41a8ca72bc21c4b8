"""Leases: who may act alone, until when; the fence number unmasks whoever lost its lease without noticing."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from monitoring.core.ledger.database import insert_ignore
from monitoring.core.tables import leases


def acquire(connection: Connection, name: str, *, owner: str, lasts: timedelta, now: datetime) -> int | None:
    """Take or renew the lease `name`; its fence number, or None while somebody else holds it."""
    insert_ignore(connection, leases, [{"name": name, "owner": owner, "fence": 0, "expires_at": now}])
    renewed = connection.execute(
        update(leases)
        .where(leases.c.name == name, leases.c.owner == owner, leases.c.fence > 0, leases.c.expires_at > now)
        .values(expires_at=now + lasts)
    )
    if renewed.rowcount == 0:
        taken = connection.execute(
            update(leases)
            .where(leases.c.name == name, leases.c.expires_at <= now)
            .values(owner=owner, fence=leases.c.fence + 1, expires_at=now + lasts)
        )
        if taken.rowcount == 0:
            return None
    return int(connection.execute(select(leases.c.fence).where(leases.c.name == name)).scalar_one())


def holds(connection: Connection, name: str, *, owner: str, fence: int, now: datetime) -> bool:
    """Whether the lease is still this owner's; to be asked inside the transaction that acts on it."""
    query = select(leases.c.name).where(
        leases.c.name == name, leases.c.owner == owner, leases.c.fence == fence, leases.c.expires_at > now
    )
    return connection.execute(query).first() is not None


def release(connection: Connection, name: str, *, owner: str, now: datetime) -> None:
    """Let others have it at once; the fence number stays."""
    connection.execute(update(leases).where(leases.c.name == name, leases.c.owner == owner).values(expires_at=now))
