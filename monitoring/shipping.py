"""The shipper's run: what waits in a host's spools goes to the prediction log; how far each host has come is kept."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from monitoring.core import spool
from monitoring.core.ids import new_id
from monitoring.core.ledger import ticks, verdicts
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.types import Clock

ROUTINE = "ship"
NAME_FILE = "name"


@dataclass(frozen=True)
class Place:
    """A folder with the spools of one host, which only a monitor on that host can ship.

    `id` is kept in the folder itself: a container that is made anew has another name, but ships the same spools.
    """

    id: str
    host: str
    folder: Path

    @classmethod
    def at(cls, folder: Path, *, host: str) -> Place:
        """The place at `folder`, which is made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / NAME_FILE).open("a+", encoding="ascii") as kept:
            fcntl.flock(kept, fcntl.LOCK_EX)  # another monitor of this host may begin at the same moment
            kept.seek(0)
            name = kept.read()
            if not name:
                name = new_id()
                kept.write(name)
        return cls(name, host, folder)

    @property
    def trigger(self) -> str:
        """What shipping from here is called, among scheduled runs and cursors."""
        return f"{ROUTINE}:{self.id}"


@dataclass(frozen=True)
class Shipped:
    """Rows that a place has shipped so far, and when everything spooled there by then was in the table."""

    host: str
    rows: int
    at: datetime


def ship(log: PredictionLog, place: Place, ledger: Ledger, clock: Clock) -> None:
    """Ship once. A crash between the table and the ledger leaves `rows` too low, never a row shipped twice."""
    begun = clock()
    moved = log.ship(place.folder)
    with ledger.begin() as connection:
        rows = int(verdicts.load_cursor(connection, place.trigger).get("rows", 0)) + moved.rows
        position = {"host": place.host, "rows": rows, "at": begun.isoformat()}
        verdicts.save_cursor(connection, place.trigger, position)


def leave(place: Place, ledger: Ledger) -> None:
    """A monitor ends. Where nobody writes any more and nothing waits, this place cannot lag: it is forgotten."""
    if not spool.writers(place.folder):
        with ledger.begin() as connection:
            _forget(connection, place.trigger)


def shipments(connection: Connection) -> dict[str, Shipped]:
    """How far each place has come, by its trigger."""
    found = verdicts.load_cursors(connection, f"{ROUTINE}:")
    return {
        trigger: Shipped(position["host"], position["rows"], datetime.fromisoformat(position["at"]))
        for trigger, position in found.items()
    }


def forget_silent(connection: Connection, *, before: datetime) -> None:
    """Forget places that have shipped nothing since `before`: their hosts are gone, and an alert has told of it."""
    for trigger, shipped in shipments(connection).items():
        if shipped.at < before:
            _forget(connection, trigger)


def _forget(connection: Connection, trigger: str) -> None:
    verdicts.drop_cursor(connection, trigger)
    ticks.drop(connection, trigger)
