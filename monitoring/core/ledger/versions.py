"""Model versions and their stages. Every change of stage is a compare-and-set with its audit event."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from monitoring.core.errors import Conflict, NotFound
from monitoring.core.ids import new_id
from monitoring.core.ledger import audit
from monitoring.core.ledger.database import insert_ignore
from monitoring.core.lifecycle import STAGES, UNTRIED, check_step
from monitoring.core.tables import models, versions
from monitoring.core.types import ModelState, ModelVersion, RetrainCause, Stage


def add(
    connection: Connection,
    *,
    model: str,
    bundle_uri: str,
    bundle_hash: str,
    labels: Collection[str],
    lineage: Mapping[str, Any],
    evidence: Mapping[str, Any],
    actor: str,
    now: datetime,
) -> ModelVersion:
    """Register a bundle as the model's next CANDIDATE; the model itself comes into being with its first version."""
    audit.await_turn(connection)
    insert_ignore(connection, models, [{"name": model, "fence": 0}])
    number = connection.execute(select(func.coalesce(func.max(versions.c.number), 0)).where(versions.c.model == model))
    version = ModelVersion(
        id=new_id(),
        model=model,
        number=number.scalar_one() + 1,
        stage=Stage.CANDIDATE,
        bundle_uri=bundle_uri,
        bundle_hash=bundle_hash,
        labels=tuple(labels),
        lineage=lineage,
        evidence=evidence,
        created_at=now,
    )
    connection.execute(insert(versions).values(**(vars(version) | {"labels": list(labels)})))
    audit.record(
        connection,
        at=now,
        actor=actor,
        action="register",
        subject=version.name,
        reason=str(lineage.get("cause", "registered")),
        detail={"bundle_hash": bundle_hash},
    )
    return version


def get(connection: Connection, reference: str) -> ModelVersion:
    """The version with this id or name (`support@3`). Raises NotFound."""
    query = select(versions)
    model, at, number = reference.rpartition("@")
    if at and number.isdecimal() and len(number) < 10:  # more digits than the column holds
        query = query.where(versions.c.model == model, versions.c.number == int(number))
    else:
        query = query.where(versions.c.id == reference)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"version {reference!r} does not exist; `leeway candidates` lists them", field="version")
    return _version(row)


def find(
    connection: Connection, *, model: str | None = None, stages: Collection[Stage] | None = None
) -> list[ModelVersion]:
    """Versions, newest first, of one model and in some stages if given."""
    query = select(versions).order_by(versions.c.created_at.desc(), versions.c.number.desc())
    if model is not None:
        query = query.where(versions.c.model == model)
    if stages is not None:
        query = query.where(versions.c.stage.in_(stages))
    return [_version(row) for row in connection.execute(query)]


def move(
    connection: Connection,
    version: ModelVersion,
    target: Stage,
    *,
    actor: str,
    reason: str,
    now: datetime,
    detail: Mapping[str, Any] | None = None,
) -> ModelVersion:
    """Move `version` to `target`. Raises Conflict where the table forbids it or another actor was faster."""
    check_step(STAGES, version.stage, target, version.name)
    audit.await_turn(connection)
    moved = connection.execute(
        update(versions).where(versions.c.id == version.id, versions.c.stage == version.stage).values(stage=target)
    )
    if moved.rowcount != 1:
        raise Conflict(f"{version.name} is no longer {version.stage}: read it again")
    audit.record(
        connection,
        at=now,
        actor=actor,
        action=f"stage:{target}",
        subject=version.name,
        reason=reason,
        detail={"from": version.stage, **(detail or {})},
    )
    return get(connection, version.id)


def model_state(connection: Connection, model: str) -> ModelState:
    """Which versions of `model` serve and stand by. Raises NotFound, naming the models there are."""
    row = connection.execute(select(models).where(models.c.name == model)).first()
    if row is None:
        known = ", ".join(state.model for state in model_states(connection)) or "none yet; `leeway train` makes one"
        raise NotFound(f"model {model!r} does not exist (known: {known})", field="model")
    return _state(row)


def model_states(connection: Connection) -> list[ModelState]:
    """All models, by name."""
    return [_state(row) for row in connection.execute(select(models).order_by(models.c.name))]


def set_champion(
    connection: Connection,
    state: ModelState,
    *,
    production: str,
    previous: str | None,
    watch_until: datetime | None,
    now: datetime,
) -> None:
    """Point the model at another champion. Raises Conflict if `state` is stale: there are never two champions."""
    changed = connection.execute(
        update(models)
        .where(models.c.name == state.model, models.c.production.is_not_distinct_from(state.production))
        .values(
            production=production,
            previous=previous,
            watch_until=watch_until,
            promoted_at=now,
            fence=models.c.fence + 1,
        )
    )
    if changed.rowcount != 1:
        raise Conflict(f"the champion of {state.model} has changed meanwhile: read it again")


def outdated(connection: Connection, version: ModelVersion) -> str | None:
    """Why the evidence on a version that has met no traffic holds no longer: its rival has left. None where it holds.

    A version that was trained from a file alone was compared with no champion, so its evidence cannot age. Retrained
    versions are compared by labels, and a recalibration answers with those of the version that it was made from: their
    evidence holds where only the champion's temperature has changed. That of another recalibration does not.
    """
    rival = version.lineage.get("parent")
    champion = model_state(connection, version.model).production
    if rival is None or rival == champion or version.stage not in UNTRIED:
        return None
    recalibrates = version.lineage.get("cause") == RetrainCause.CALIBRATION
    if not recalibrates and champion is not None and _trained(connection, rival) == _trained(connection, champion):
        return None
    serving = "no version serves" if champion is None else f"{name_of(connection, champion)} serves"
    anew = "recalibrate" if recalibrates else "retrain"
    return f"measured against {name_of(connection, rival)}, but {serving} now: {anew} `{version.model}` to measure anew"


def _trained(connection: Connection, version_id: str) -> str:
    """The version that a recalibration, or a recalibration of one, was made from: same model, same labels, for good."""
    query = select(versions.c.lineage).where(versions.c.id == version_id)
    lineage = connection.execute(query).scalar_one_or_none() or {}
    if lineage.get("cause") != RetrainCause.CALIBRATION or not lineage.get("parent"):
        return version_id
    return _trained(connection, lineage["parent"])


def name_of(connection: Connection, version_id: str) -> str:
    """`support@3` for an id; the id itself where another ledger gave it."""
    row = connection.execute(select(versions.c.model, versions.c.number).where(versions.c.id == version_id)).first()
    return version_id if row is None else f"{row.model}@{row.number}"


def set_aside_outdated(connection: Connection, model: str, *, actor: str, now: datetime) -> list[ModelVersion]:
    """Reject what was measured against another champion than the present one; to be called where that changes.

    Otherwise a person would approve on evidence that no longer holds, and no retraining would begin while it waits.
    """
    return [
        move(connection, version, Stage.REJECTED, actor=actor, reason=reason, now=now)
        for version in find(connection, model=model, stages=UNTRIED)
        if (reason := outdated(connection, version)) is not None
    ]


def end_watch(connection: Connection, state: ModelState, *, now: datetime) -> None:
    """Let the previous version go cold: its promotion has stood the watch. Raises Conflict if `state` is stale."""
    ended = connection.execute(
        update(models)
        .where(models.c.name == state.model, models.c.production == state.production)
        .values(previous=None, watch_until=None)
    )
    if ended.rowcount != 1:
        raise Conflict(f"the champion of {state.model} has changed meanwhile: read it again")
    audit.record(
        connection,
        at=now,
        actor="controller",
        action="watch:end",
        subject=state.model,
        reason="the watch after the promotion ended without a rollback",
    )


def _version(row: Row[Any]) -> ModelVersion:
    values = dict(row._mapping)
    return ModelVersion(**(values | {"stage": Stage(values["stage"]), "labels": tuple(values["labels"])}))


def _state(row: Row[Any]) -> ModelState:
    return ModelState(
        model=row.name,
        production=row.production,
        previous=row.previous,
        watch_until=row.watch_until,
        promoted_at=row.promoted_at,
    )
