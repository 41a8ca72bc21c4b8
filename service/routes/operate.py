"""Operation: who serves and why, what waits for a person, and the person's decisions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from sqlalchemy import Connection

from monitoring.core.ledger import alerts, audit, jobs, rollouts, versions
from monitoring.core.plain import plain
from monitoring.core.types import ModelVersion, Principal, Role, Rollout, Stage, TrainingJob
from service import operation_schemas as shapes
from service import views
from service.auth import SECURITY, require
from service.context import Here
from service.operation import Operator, find_rollout

_caller = Depends(require(Role.OPERATE, Role.APPROVE))  # to read; `Operator` knows what each act needs
router = APIRouter(prefix="/v1", tags=["operation"], responses=shapes.OPERATION_ERRORS, dependencies=[_caller])
_get, _post = router.get, router.post
_SECURED: dict[str, Any] = {"openapi_extra": {"security": SECURITY}}
_Limit = Annotated[int, Query(ge=1, le=1000)]
_Model = Annotated[str | None, Query(description="only this model's")]


def _operator(context: Here, caller: Annotated[Principal, _caller]) -> Operator:
    return Operator(caller, context.ledger, context.settings.rollout, context.clock)


def _reading(context: Here) -> Iterator[Connection]:
    with context.ledger.read() as connection:
        yield connection


Acting = Annotated[Operator, Depends(_operator)]
Reading = Annotated[Connection, Depends(_reading)]


@_get("/models", response_model=shapes.Models, summary="Models: who serves, who stands by", **_SECURED)
def list_models(context: Here, connection: Reading) -> Any:
    """With the classes that callers propose in their feedback, and what will become of each."""
    states = versions.model_states(connection)
    return {"models": [views.model_view(connection, state, context.settings.retrain) for state in states]}


@_post("/models/{model}/rollback", response_model=shapes.VersionView, summary="Undo the last promotion", **_SECURED)
def roll_back(model: str, body: shapes.ReasonRequest, operator: Acting) -> Any:
    """The version that was replaced serves again; possible while the watch after the promotion lasts."""
    return _version(operator, operator.rollback(model, reason=body.reason))


@_post(
    "/models/{model}/retrain",
    response_model=TrainingJob,
    status_code=202,
    summary="Ask for a retraining",
    **_SECURED,
)
def retrain(model: str, body: shapes.ReasonRequest, operator: Acting) -> Any:
    """A worker takes it up; 409 while one that a person asked for is open."""
    return plain(operator.retrain(model, reason=body.reason))


@_post(
    "/models/{model}/recalibrate",
    response_model=TrainingJob,
    status_code=202,
    summary="Ask for a recalibration",
    **_SECURED,
)
def recalibrate(model: str, body: shapes.ReasonRequest, operator: Acting) -> Any:
    """The champion with another temperature, fitted to recent outcome-blind labels; its labels stay as they are.

    A worker takes it up; 409 while one is open.
    """
    return plain(operator.recalibrate(model, reason=body.reason))


@_get("/versions", response_model=shapes.Versions, summary="Versions with their evidence", **_SECURED)
def list_versions(
    connection: Reading, model: _Model = None, stage: Annotated[Stage | None, Query(description="only these")] = None
) -> Any:
    """Newest first."""
    _check_model(connection, model)
    found = versions.find(connection, model=model, stages=None if stage is None else {stage})
    return {"versions": [views.version_view(connection, version) for version in found]}


@_get("/versions/{version}", response_model=shapes.VersionView, summary="One version", **_SECURED)
def show_version(version: str, connection: Reading) -> Any:
    """By id or by name, such as `support@3`."""
    return views.version_view(connection, versions.get(connection, version))


@_post("/versions/{version}/approve", response_model=shapes.VersionView, summary="Approve a candidate", **_SECURED)
def approve(version: str, body: shapes.ApproveRequest, operator: Acting) -> Any:
    """Needs the role approve. Its rollout begins in shadow; a model's first version goes into production at once."""
    return _version(operator, operator.approve(version, reason=body.reason, bundle_hash=body.bundle_hash))


@_post("/versions/{version}/reject", response_model=shapes.VersionView, summary="Reject a candidate", **_SECURED)
def reject(version: str, body: shapes.ReasonRequest, operator: Acting) -> Any:
    """Needs the role approve. For good."""
    return _version(operator, operator.reject(version, reason=body.reason))


@_get("/rollouts", response_model=shapes.Rollouts, summary="Rollouts with their analysis", **_SECURED)
def list_rollouts(connection: Reading, model: _Model = None, limit: _Limit = 100) -> Any:
    """Newest first."""
    _check_model(connection, model)
    found = rollouts.find(connection, model=model, limit=limit)
    return {"rollouts": [views.rollout_view(connection, rollout) for rollout in found]}


@_get("/rollouts/{rollout}", response_model=shapes.RolloutView, summary="One rollout", **_SECURED)
def show_rollout(rollout: str, connection: Reading) -> Any:
    """By id, or by its model's name: then the newest."""
    return views.rollout_view(connection, find_rollout(connection, rollout))


@_post("/rollouts/{rollout}/pause", response_model=shapes.RolloutView, summary="Pause a rollout", **_SECURED)
def pause(rollout: str, body: shapes.ReasonRequest, operator: Acting) -> Any:
    """It does not advance; traffic stays as it is."""
    return _rollout(operator, operator.pause(rollout, reason=body.reason))


@_post("/rollouts/{rollout}/resume", response_model=shapes.RolloutView, summary="Resume a paused rollout", **_SECURED)
def resume(rollout: str, body: shapes.ReasonRequest, operator: Acting) -> Any:
    """Its step gets a new deadline."""
    return _rollout(operator, operator.resume(rollout, reason=body.reason))


@_post("/rollouts/{rollout}/promote", response_model=shapes.RolloutView, summary="Promote now", **_SECURED)
def promote(rollout: str, body: shapes.ReasonRequest, operator: Acting) -> Any:
    """Without waiting for the verdict: the audit trail says who did, and why."""
    return _rollout(operator, operator.promote(rollout, reason=body.reason))


@_post("/rollouts/{rollout}/abort", response_model=shapes.RolloutView, summary="Abort a rollout", **_SECURED)
def abort(rollout: str, body: shapes.ReasonRequest, operator: Acting) -> Any:
    """All traffic goes back to the champion."""
    return _rollout(operator, operator.abort(rollout, reason=body.reason))


@_get("/jobs", response_model=shapes.Jobs, summary="Retrainings", **_SECURED)
def list_jobs(connection: Reading, model: _Model = None, limit: _Limit = 100) -> Any:
    """Newest first."""
    _check_model(connection, model)
    return {"jobs": plain(jobs.find(connection, model=model, limit=limit))}


@_get("/drift", response_model=shapes.Reports, summary="Drift reports", **_SECURED)
def list_reports(connection: Reading, model: _Model = None, limit: _Limit = 50) -> Any:
    """Newest first."""
    _check_model(connection, model)
    found = views.find_reports(connection, model=model, limit=limit)
    return {"reports": [views.report_view(connection, report_id, report) for report_id, report in found]}


@_get("/alerts", response_model=shapes.Alerts, summary="Alert episodes", **_SECURED)
def list_alerts(
    connection: Reading,
    model: _Model = None,
    open_only: Annotated[bool, Query(alias="open", description="only those that last")] = False,
    limit: _Limit = 100,
) -> Any:
    """Newest first."""
    _check_model(connection, model)
    return {"alerts": plain(alerts.find(connection, model=model, open_only=open_only, limit=limit))}


@_get("/audit", response_model=shapes.Trail, summary="Who did what, when and why", **_SECURED)
def list_events(
    connection: Reading,
    subject: Annotated[str | None, Query(description="a model, a version's name or a key's")] = None,
    check: Annotated[bool, Query(description="also verify the whole chain of hashes")] = False,
    limit: _Limit = 200,
) -> Any:
    """Newest first."""
    return {
        "events": plain(audit.events(connection, subject=subject, limit=limit)),
        "first_broken_link": audit.first_broken_link(connection) if check else None,
    }


def _check_model(connection: Connection, model: str | None) -> None:
    """A misspelt model is an error, not an empty list."""
    if model is not None:
        versions.model_state(connection, model)


def _version(operator: Operator, version: ModelVersion) -> dict[str, Any]:
    with operator.ledger.read() as connection:
        return views.version_view(connection, version)


def _rollout(operator: Operator, rollout: Rollout) -> dict[str, Any]:
    with operator.ledger.read() as connection:
        return views.rollout_view(connection, rollout)
