"""What people and workers do to a ledger, in few words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from monitoring.core.ids import new_id
from monitoring.core.ledger import approvals, rollouts, versions
from monitoring.core.types import ModelVersion, RetrainCause, Rollout, Stage

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
MODEL = "support"


def candidate(
    connection: Connection,
    *,
    model: str = MODEL,
    now: datetime = NOON,
    parent: str | None = None,
    cause: RetrainCause = RetrainCause.DRIFT,
) -> ModelVersion:
    """A version that waits for approval; `parent` is the champion that its gates compared it with."""
    version = versions.add(
        connection,
        model=model,
        bundle_uri=f"bundles/{new_id()}",
        bundle_hash=(new_id() + new_id()).replace("-", ""),
        labels=("billing", "delivery"),
        lineage={"cause": cause, "parent": parent},
        evidence={"gates": []},
        actor="worker",
        now=now,
    )
    return versions.move(connection, version, Stage.AWAITING_APPROVAL, actor="worker", reason="gates passed", now=now)


def approve(
    connection: Connection, version: ModelVersion, *, now: datetime = NOON, bundle_hash: str | None = None
) -> ModelVersion:
    """Approved by ada for 72 hours; a model's first version then serves."""
    return approvals.approve(
        connection,
        version,
        person="ada",
        reason="looks right",
        bundle_hash=bundle_hash,
        valid_for=timedelta(hours=72),
        now=now,
    )


def champion(connection: Connection, *, model: str = MODEL, now: datetime = NOON) -> ModelVersion:
    """The model's first version, in production."""
    return approve(connection, candidate(connection, model=model, now=now), now=now)


def in_shadow(connection: Connection, *, model: str = MODEL, now: datetime = NOON) -> Rollout:
    """A rollout of a new, approved version of a model that has a champion."""
    version = approve(connection, candidate(connection, model=model, now=now), now=now)
    return rollouts.start(connection, version, salt="salt", now=now)


def promote(connection: Connection, rollout: Rollout, *, now: datetime = NOON, actor: str = "ada") -> Rollout:
    """Its candidate becomes the champion, under watch for 72 hours."""
    return rollouts.promote(connection, rollout, actor=actor, reason="better", watch=timedelta(hours=72), now=now)
