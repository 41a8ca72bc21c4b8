"""Scheduled runs: clocks insert `(trigger, window)` once; leased workers do it once, however many there are of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select, text, update

from monitoring.core.ids import new_id
from monitoring.core.ledger.database import insert_ignore
from monitoring.core.tables import ticks

SUPERSEDED = "superseded"
Local = Mapping[str, Collection[str]]
"""Routines whose runs belong to one host each, as `ship:HOST`, with the triggers of this host."""
NONE_LOCAL: Local = {}


@dataclass(frozen=True)
class Tick:
    """One claimed run of a trigger."""

    id: str
    trigger: str
    window: datetime
    fence: int


def insert(connection: Connection, trigger: str, window: datetime) -> bool:
    """Ask for one run; False if some clock already did."""
    row = {"id": new_id(), "trigger": trigger, "window": window, "fence": 0}
    return insert_ignore(connection, ticks, [row]) == 1


def waits(connection: Connection, *, now: datetime, local: Local = NONE_LOCAL) -> bool:
    """Whether there is a run to claim; a read, so that idle workers never take the write lock."""
    return connection.execute(_free(now, local).limit(1)).first() is not None


def claim(
    connection: Connection, *, owner: str, lasts: timedelta, now: datetime, local: Local = NONE_LOCAL
) -> Tick | None:
    """Take the newest run of the trigger that has waited longest; its older runs are superseded.

    A trigger that somebody does now is left alone until it is done, or until that worker's lease runs out; so is what
    belongs to another host.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(7238093)"))  # one claim at a time
    oldest = connection.execute(_free(now, local).order_by(ticks.c.window, ticks.c.trigger).limit(1)).first()
    if oldest is None:
        return None
    same = (ticks.c.trigger == oldest.trigger) & ticks.c.finished_at.is_(None)
    row = connection.execute(select(ticks).where(same).order_by(ticks.c.window.desc()).limit(1)).one()
    connection.execute(update(ticks).where(same, ticks.c.id != row.id).values(finished_at=now, error=SUPERSEDED))
    fence = row.fence + 1
    connection.execute(
        update(ticks).where(ticks.c.id == row.id).values(owner=owner, fence=fence, lease_until=now + lasts)
    )
    return Tick(row.id, row.trigger, row.window, fence)


def renew(connection: Connection, tick: Tick, *, lasts: timedelta, now: datetime) -> bool:
    """Keep a run that is under way; False if it was taken over meanwhile."""
    kept = connection.execute(
        update(ticks)
        .where(ticks.c.id == tick.id, ticks.c.fence == tick.fence, ticks.c.finished_at.is_(None))
        .values(lease_until=now + lasts)
    )
    return kept.rowcount == 1


def finish(connection: Connection, tick: Tick, *, now: datetime, error: str | None = None) -> bool:
    """Mark the run done, or failed with `error`; False if it was taken over meanwhile."""
    done = connection.execute(
        update(ticks)
        .where(ticks.c.id == tick.id, ticks.c.fence == tick.fence, ticks.c.finished_at.is_(None))
        .values(finished_at=now, error=error)
    )
    return done.rowcount == 1


def forget(connection: Connection, *, before: datetime) -> None:
    """Delete runs finished before `before`."""
    connection.execute(delete(ticks).where(ticks.c.finished_at < before))


def drop(connection: Connection, trigger: str) -> None:
    """Delete all runs of a trigger that nobody will ask for again."""
    connection.execute(delete(ticks).where(ticks.c.trigger == trigger))


def last_finished(connection: Connection) -> dict[str, datetime]:
    """When each trigger was last done without an error."""
    query = select(ticks.c.trigger, func.max(ticks.c.finished_at)).where(
        ticks.c.finished_at.is_not(None), ticks.c.error.is_(None)
    )
    return {row[0]: row[1] for row in connection.execute(query.group_by(ticks.c.trigger))}


def _free(now: datetime, local: Local) -> Select[Any]:
    """Runs to be done, of triggers that nobody does now and that can be done here."""
    waiting = select(ticks).where(ticks.c.finished_at.is_(None))
    under_way = select(ticks.c.trigger).where(ticks.c.finished_at.is_(None), ticks.c.lease_until > now)
    for routine, triggers in local.items():
        elsewhere = ticks.c.trigger.startswith(f"{routine}:", autoescape=True) & ticks.c.trigger.not_in(triggers)
        waiting = waiting.where(~elsewhere)
    return waiting.where(ticks.c.trigger.not_in(under_way))
