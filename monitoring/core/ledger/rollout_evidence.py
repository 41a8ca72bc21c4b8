"""Who was exposed to which arm of a rollout, and how those requests went: what the controller's guardrails read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from monitoring.core.tables import exposures

SILENT_STEP = -2


@dataclass(frozen=True)
class Exposure:
    """One assignment unit in one step. Counted over its requests: all, failed, and slower than the objective.

    In shadow, step -1 holds what callers were answered, and SILENT_STEP what the candidate answered to copies of it.
    """

    rollout: str
    step: int
    unit: str
    candidate: bool
    share: float
    first_seen: datetime
    requests: int
    errors: int
    slow: int


def add_exposures(connection: Connection, rows: Iterable[Exposure]) -> None:
    """Add counts to the units' rows; the first sighting fixes arm, share and time."""
    build = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    for row in rows:
        statement = build(exposures).values(**(vars(row) | {"candidate": int(row.candidate)}))
        counts = {name: exposures.c[name] + statement.excluded[name] for name in ("requests", "errors", "slow")}
        connection.execute(statement.on_conflict_do_update(index_elements=["rollout", "step", "unit"], set_=counts))


def find_exposures(connection: Connection, rollout: str) -> list[Exposure]:
    """All units of a rollout in the order in which they were first seen."""
    query = select(exposures).where(exposures.c.rollout == rollout)
    query = query.order_by(exposures.c.first_seen, exposures.c.unit)
    return [Exposure(**(dict(row._mapping) | {"candidate": bool(row.candidate)})) for row in connection.execute(query)]
