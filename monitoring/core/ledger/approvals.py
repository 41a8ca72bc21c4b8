"""A person's decision on a candidate: it names the person, binds to the bundle's hash, and expires."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select

from monitoring.core.errors import Conflict, InvalidInput
from monitoring.core.ids import new_id
from monitoring.core.ledger import versions
from monitoring.core.tables import approvals
from monitoring.core.types import ModelVersion, Stage


@dataclass(frozen=True)
class Approval:
    """One decision; `expires_at` is None for a rejection."""

    id: str
    version: str
    bundle_hash: str
    decision: str
    person: str
    reason: str
    decided_at: datetime
    expires_at: datetime | None

    def valid_for(self, version: ModelVersion, now: datetime) -> bool:
        """Whether this still lets `version` begin its rollout."""
        fresh = self.expires_at is not None and now < self.expires_at
        return self.decision == "approved" and fresh and self.bundle_hash == version.bundle_hash


def approve(
    connection: Connection,
    version: ModelVersion,
    *,
    person: str,
    reason: str,
    bundle_hash: str | None,
    valid_for: timedelta,
    now: datetime,
) -> ModelVersion:
    """Approve a candidate. `bundle_hash` is what the person looked at; None takes the registered one.

    A model's first version has no champion to be compared with, so its approval puts it into production at once.
    Raises Conflict for another stage, another bundle or evidence against another champion than the present one,
    InvalidInput without a reason.
    """
    _require_reason(reason)
    given = latest(connection, version)
    if version.stage is not Stage.AWAITING_APPROVAL and given is not None and given.expires_at is not None:
        said = f"approved already, by {given.person}, {given.decided_at:%Y-%m-%d %H:%M} UTC"
        raise Conflict(f"{version.name} was {said}: it is {version.stage.replace('_', ' ')} now")
    outdated = versions.outdated(connection, version)
    if outdated is not None:
        raise Conflict(f"{version.name} was {outdated}, and reject this one")
    if bundle_hash is not None and bundle_hash != version.bundle_hash:
        raise Conflict(f"{version.name} is not the bundle that was reviewed: its hash is {version.bundle_hash[:12]}…")
    expires = now + valid_for
    _record(connection, version, "approved", person, reason, now, expires)
    detail = {"bundle_hash": version.bundle_hash, "expires_at": expires.isoformat()}
    approved = versions.move(connection, version, Stage.APPROVED, actor=person, reason=reason, now=now, detail=detail)
    state = versions.model_state(connection, version.model)
    if state.production is not None:
        return approved
    first = "the model's first version: there is no champion to compare it with"
    promoted = versions.move(connection, approved, Stage.PRODUCTION, actor=person, reason=first, now=now)
    versions.set_champion(connection, state, production=version.id, previous=None, watch_until=None, now=now)
    return promoted


def reject(connection: Connection, version: ModelVersion, *, person: str, reason: str, now: datetime) -> ModelVersion:
    """Reject a candidate for good. Raises Conflict for another stage, InvalidInput without a reason."""
    _require_reason(reason)
    _record(connection, version, "rejected", person, reason, now, None)
    return versions.move(connection, version, Stage.REJECTED, actor=person, reason=reason, now=now)


def latest(connection: Connection, version: ModelVersion) -> Approval | None:
    """The newest decision on `version`."""
    query = select(approvals).where(approvals.c.version == version.id).order_by(approvals.c.decided_at.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else Approval(**row)


def expire(connection: Connection, *, now: datetime) -> list[ModelVersion]:
    """Send approved versions whose approval has run out, or whose bundle changed, back to waiting."""
    sent_back = []
    for version in versions.find(connection, stages={Stage.APPROVED}):
        approval = latest(connection, version)
        if approval is None or not approval.valid_for(version, now):
            sent_back.append(
                versions.move(
                    connection,
                    version,
                    Stage.AWAITING_APPROVAL,
                    actor="controller",
                    reason="the approval expired before the rollout began",
                    now=now,
                )
            )
    return sent_back


def _record(
    connection: Connection,
    version: ModelVersion,
    decision: str,
    person: str,
    reason: str,
    now: datetime,
    expires: datetime | None,
) -> None:
    connection.execute(
        insert(approvals).values(
            id=new_id(),
            version=version.id,
            bundle_hash=version.bundle_hash,
            decision=decision,
            person=person,
            reason=reason,
            decided_at=now,
            expires_at=expires,
        )
    )


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidInput("reason is empty: say in a few words why, for the audit trail", field="reason")
