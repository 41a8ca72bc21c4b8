"""Which serving processes are alive and what each has loaded and warmed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select

from monitoring.core.ledger.database import upsert
from monitoring.core.tables import replicas

SILENT_AFTER = timedelta(seconds=15)


def report(connection: Connection, replica: str, *, loaded: Collection[str], now: datetime) -> None:
    """A serving process says what it has ready; silent ones are forgotten."""
    connection.execute(delete(replicas).where(replicas.c.seen_at < now - 20 * SILENT_AFTER))
    upsert(connection, replicas, {"id": replica}, {"loaded": sorted(loaded), "seen_at": now})


def leave(connection: Connection, replica: str) -> None:
    """A serving process ends."""
    connection.execute(delete(replicas).where(replicas.c.id == replica))


def all_have_loaded(connection: Connection, version: str, *, now: datetime) -> bool:
    """Whether at least one serving process is alive and every live one has `version` warm."""
    loaded = alive(connection, now=now).values()
    return bool(loaded) and all(version in versions for versions in loaded)


def alive(connection: Connection, *, now: datetime) -> dict[str, frozenset[str]]:
    """The serving processes heard of lately, with the version ids that each has ready."""
    query = select(replicas).where(replicas.c.seen_at >= now - SILENT_AFTER).order_by(replicas.c.id)
    return {row.id: frozenset(row.loaded) for row in connection.execute(query)}
