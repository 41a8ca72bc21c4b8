"""Changes of a version's baseline: who made which span of its own traffic the measure, when and why. Append-only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from monitoring.core.ids import new_id
from monitoring.core.ledger import alerts, audit
from monitoring.core.tables import baselines
from monitoring.core.types import ModelVersion

SUPERSEDED = frozenset({"drift"})
"""Alerts that compare with what is usual: under another baseline they mean nothing. Proofs by labels go on."""


@dataclass(frozen=True)
class BaselineChange:
    """The baseline at `uri` in storage, of that SHA-256: `n` answers of the span from `since` to before `until`."""

    id: str
    version: str
    uri: str
    sha256: str
    since: datetime
    until: datetime
    n: int
    actor: str
    reason: str
    set_at: datetime


def newest(connection: Connection, version: str, at: datetime | None = None) -> BaselineChange | None:
    """The change in force, now or `at` a moment; None while the version has the baseline of its bundle."""
    query = select(baselines).where(baselines.c.version == version)
    if at is not None:
        query = query.where(baselines.c.set_at <= at)
    row = connection.execute(query.order_by(baselines.c.sequence.desc()).limit(1)).mappings().first()
    return None if row is None else BaselineChange(**{name: row[name] for name in BaselineChange.__dataclass_fields__})


def change(
    connection: Connection,
    version: ModelVersion,
    *,
    uri: str,
    sha256: str,
    since: datetime,
    until: datetime,
    n: int,
    old: str,
    actor: str,
    reason: str,
    now: datetime,
) -> BaselineChange:
    """Put another baseline in force from now on, with its audit event; episodes against the `old` one end."""
    made = BaselineChange(new_id(), version.id, uri, sha256, since, until, n, actor, reason, now)
    audit.await_turn(connection)
    connection.execute(insert(baselines).values(**vars(made)))
    audit.record(
        connection,
        at=now,
        actor=actor,
        action="baseline",
        subject=version.name,
        reason=reason,
        detail={
            "since": since.isoformat(),
            "until": until.isoformat(),
            "rows": n,
            "old": old,
            "new": uri,
            "sha256": sha256,
        },
    )
    for alert in alerts.find(connection, model=version.model, open_only=True):
        if alert.name in SUPERSEDED and alert.detail.get("version") == version.id:
            alerts.resolve(connection, alert, reason=f"{actor} changed the baseline: {reason}", now=now)
    return made
