"""A candidate's way to production. Each step is one transaction: rollout, versions, champion and audit together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from monitoring.core.errors import Conflict, NotFound
from monitoring.core.ids import new_id
from monitoring.core.ledger import approvals, audit, versions
from monitoring.core.lifecycle import PHASES, check_step
from monitoring.core.tables import rollouts
from monitoring.core.types import ModelVersion, Rollout, RolloutPhase, Stage

CONTROLLER = "controller"
SHADOW_STEP = -1


def start(connection: Connection, version: ModelVersion, *, salt: str, now: datetime) -> Rollout:
    """Begin the shadow stage of an approved version. Raises Conflict without valid approval or with one open."""
    audit.await_turn(connection)
    approval = approvals.latest(connection, version)
    if approval is None or not approval.valid_for(version, now):
        raise Conflict(f"{version.name} has no valid approval: approve it again")
    champion = versions.model_state(connection, version.model).production
    if champion is None:
        raise Conflict(f"{version.model} has no champion: its first version goes into production by approval")
    rollout = Rollout(
        id=new_id(),
        model=version.model,
        candidate=version.id,
        champion=champion,
        phase=RolloutPhase.RUNNING,
        stage=Stage.SHADOW,
        step=SHADOW_STEP,
        share=0.0,
        salt=salt,
        fence=1,
        reason="shadow: both versions answer the same requests, only the champion's answers leave",
        analysis={},
        started_at=now,
        step_started_at=now,
        ended_at=None,
    )
    try:
        connection.execute(insert(rollouts).values(**vars(rollout)))
    except IntegrityError as error:
        raise Conflict(f"{version.model} has a rollout under way: end that first") from error
    versions.move(connection, version, Stage.SHADOW, actor=CONTROLLER, reason=rollout.reason, now=now)
    return rollout


def get(connection: Connection, rollout_id: str) -> Rollout:
    """One rollout. Raises NotFound."""
    row = connection.execute(select(rollouts).where(rollouts.c.id == rollout_id)).first()
    if row is None:
        raise NotFound(f"rollout {rollout_id!r} does not exist", field="rollout")
    return _rollout(row)


def open_rollouts(connection: Connection) -> list[Rollout]:
    """Those that have not ended: at most one per model."""
    return [_rollout(row) for row in connection.execute(select(rollouts).where(rollouts.c.ended_at.is_(None)))]


def open_rollout(connection: Connection, model: str) -> Rollout | None:
    """The model's rollout under way, if any."""
    return next((rollout for rollout in open_rollouts(connection) if rollout.model == model), None)


def find(connection: Connection, *, model: str | None = None, limit: int = 100) -> list[Rollout]:
    """Rollouts, newest first."""
    query = select(rollouts).order_by(rollouts.c.started_at.desc()).limit(limit)
    if model is not None:
        query = query.where(rollouts.c.model == model)
    return [_rollout(row) for row in connection.execute(query)]


def count_ended(connection: Connection) -> dict[tuple[str, RolloutPhase], int]:
    """Rollouts that have ended, by model and how."""
    query = select(rollouts.c.model, rollouts.c.phase, func.count()).where(rollouts.c.ended_at.is_not(None))
    rows = connection.execute(query.group_by(rollouts.c.model, rollouts.c.phase))
    return {(row[0], RolloutPhase(row[1])): int(row[2]) for row in rows}


def record_analysis(connection: Connection, rollout: Rollout, analysis: Mapping[str, Any], reason: str) -> Rollout:
    """Keep the newest reading beside the rollout; no step, so no audit event."""
    return _change(connection, rollout, analysis=dict(analysis), reason=reason)


def advance(
    connection: Connection, rollout: Rollout, *, step: int, share: float, reason: str, now: datetime
) -> Rollout:
    """Enter A/B step `step` (0-based) with the candidate's traffic `share`."""
    candidate = versions.get(connection, rollout.candidate)
    if candidate.stage is not Stage.AB_TEST:
        versions.move(connection, candidate, Stage.AB_TEST, actor=CONTROLLER, reason=reason, now=now)
    changed = _change(
        connection, rollout, stage=Stage.AB_TEST, step=step, share=share, reason=reason, step_started_at=now
    )
    _audit(connection, rollout, "step", reason, now, CONTROLLER, {"step": step, "share": share})
    return changed


def pause(connection: Connection, rollout: Rollout, *, reason: str, now: datetime, actor: str = CONTROLLER) -> Rollout:
    """Stop advancing and ask a person; traffic stays as it is."""
    changed = _change_phase(connection, rollout, RolloutPhase.INCONCLUSIVE, reason=reason)
    _audit(connection, rollout, "pause", reason, now, actor)
    return changed


def resume(connection: Connection, rollout: Rollout, *, actor: str, reason: str, now: datetime) -> Rollout:
    """A person lets a paused rollout go on, with a new deadline for its step."""
    if rollout.phase is not RolloutPhase.INCONCLUSIVE:
        raise Conflict(f"the rollout is {rollout.phase}, not paused")
    changed = _change_phase(connection, rollout, RolloutPhase.RUNNING, reason=reason, step_started_at=now)
    _audit(connection, rollout, "resume", reason, now, actor)
    return changed


def promote(
    connection: Connection, rollout: Rollout, *, actor: str, reason: str, watch: timedelta, now: datetime
) -> Rollout:
    """Make the candidate the champion; the old one is archived but stays warm until the watch ends.

    Baseline and detector switch with it, since both belong to the version. What else waits was measured against the
    old champion, and is set aside; a retrained version is not, where only the champion's temperature changes.
    """
    candidate = versions.get(connection, rollout.candidate)
    champion = versions.get(connection, rollout.champion)
    if candidate.stage is Stage.SHADOW:
        candidate = versions.move(connection, candidate, Stage.AB_TEST, actor=actor, reason=reason, now=now)
    versions.move(connection, champion, Stage.ARCHIVED, actor=actor, reason=f"replaced by {candidate.name}", now=now)
    versions.move(connection, candidate, Stage.PRODUCTION, actor=actor, reason=reason, now=now)
    state = versions.model_state(connection, rollout.model)
    if state.production != champion.id:
        raise Conflict(f"{champion.name} is no longer the champion of {rollout.model}")
    versions.set_champion(
        connection, state, production=candidate.id, previous=champion.id, watch_until=now + watch, now=now
    )
    versions.set_aside_outdated(connection, rollout.model, actor=actor, now=now)
    changed = _change_phase(connection, rollout, RolloutPhase.SUCCESSFUL, reason=reason, share=1.0, ended_at=now)
    _audit(connection, rollout, "promote", reason, now, actor, {"champion": candidate.name, "previous": champion.name})
    return changed


def abort(
    connection: Connection,
    rollout: Rollout,
    *,
    actor: str,
    reason: str,
    now: datetime,
    phase: RolloutPhase = RolloutPhase.FAILED,
) -> Rollout:
    """Give all traffic back to the champion; the candidate is rolled back for good."""
    candidate = versions.get(connection, rollout.candidate)
    versions.move(connection, candidate, Stage.ROLLED_BACK, actor=actor, reason=reason, now=now)
    changed = _change_phase(connection, rollout, phase, reason=reason, share=0.0, ended_at=now)
    _audit(connection, rollout, "rollback", reason, now, actor)
    return changed


def restore_previous(connection: Connection, model: str, *, actor: str, reason: str, now: datetime) -> ModelVersion:
    """Undo a promotion: the previous version serves again. What was measured against the fallen one is set aside.

    Raises Conflict if there is none to go back to.
    """
    state = versions.model_state(connection, model)
    if state.production is None or state.previous is None:
        raise Conflict(f"{model} has no previous version to go back to")
    current = versions.get(connection, state.production)
    previous = versions.get(connection, state.previous)
    under_way = open_rollout(connection, model)
    if under_way is not None:
        abort(connection, under_way, actor=actor, reason=f"its champion {current.name} is being rolled back", now=now)
    versions.move(connection, current, Stage.ROLLED_BACK, actor=actor, reason=reason, now=now)
    restored = versions.move(connection, previous, Stage.PRODUCTION, actor=actor, reason=reason, now=now)
    versions.set_champion(connection, state, production=previous.id, previous=None, watch_until=None, now=now)
    versions.set_aside_outdated(connection, model, actor=actor, now=now)
    return restored


def _change_phase(connection: Connection, rollout: Rollout, phase: RolloutPhase, **values: Any) -> Rollout:
    check_step(PHASES, rollout.phase, phase, f"the rollout of {rollout.model}")
    return _change(connection, rollout, phase=phase, **values)


def _change(connection: Connection, rollout: Rollout, **values: Any) -> Rollout:
    """Compare-and-set on the fencing token: whoever acts on an old reading is refused."""
    audit.await_turn(connection)
    changed = connection.execute(
        update(rollouts)
        .where(rollouts.c.id == rollout.id, rollouts.c.fence == rollout.fence, rollouts.c.ended_at.is_(None))
        .values(fence=rollout.fence + 1, **values)
    )
    if changed.rowcount != 1:
        raise Conflict(f"the rollout of {rollout.model} has moved on: read it again")
    return get(connection, rollout.id)


def _audit(
    connection: Connection,
    rollout: Rollout,
    action: str,
    reason: str,
    now: datetime,
    actor: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    audit.record(
        connection,
        at=now,
        actor=actor,
        action=f"rollout:{action}",
        subject=rollout.model,
        reason=reason,
        detail={"rollout": rollout.id, **(detail or {})},
    )


def _rollout(row: Row[Any]) -> Rollout:
    values = dict(row._mapping)
    return Rollout(**(values | {"phase": RolloutPhase(values["phase"]), "stage": Stage(values["stage"])}))
