"""The shipper's run: what waits in the spools goes to the prediction log, and how far that has come is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from monitoring.core.ledger import verdicts
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.types import Clock

CURSOR = "ship"


@dataclass(frozen=True)
class Shipped:
    """Rows shipped so far, and when everything spooled by then was in the table; None before the first time."""

    rows: int
    at: datetime | None


def ship(log: PredictionLog, spool: Path, ledger: Ledger, clock: Clock) -> Shipped:
    """Ship once. A crash between the table and the ledger leaves `rows` too low, never a row shipped twice."""
    begun = clock()
    moved = log.ship(spool)
    with ledger.begin() as connection:
        shipped = Shipped(last_shipment(connection).rows + moved.rows, begun)
        verdicts.save_cursor(connection, CURSOR, {"rows": shipped.rows, "at": begun.isoformat()})
    return shipped


def last_shipment(connection: Connection) -> Shipped:
    """How far shipping has come."""
    cursor = verdicts.load_cursor(connection, CURSOR)
    return Shipped(cursor["rows"], datetime.fromisoformat(cursor["at"])) if cursor else Shipped(0, None)
