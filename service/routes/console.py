"""The console: plain pages for whoever approves and operates. They work without JavaScript."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from monitoring.core.errors import NotFound
from monitoring.core.ledger import alerts, approvals, audit, jobs, rollouts, versions
from monitoring.core.types import Stage
from service import views
from service.console import evidence, login
from service.console.desk import AtDesk
from service.console.pages import in_path
from service.console.route import PageRoute
from service.console.session import HOME, Acting
from service.operation import find_rollout

router = APIRouter(prefix=HOME, route_class=PageRoute, include_in_schema=False)
router.include_router(login.router)
front = APIRouter(include_in_schema=False)
Text = Annotated[str, Form()]
SHOWN = 50
PLAIN_PAGE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
}
"""For the report, which brings its own style, since it is to be mailed as one file; it runs and loads nothing."""


@front.get("/")
def front_door() -> Response:
    """Whoever opens the server's bare address in a browser wants the console."""
    return RedirectResponse(HOME)


@router.get("")
def overview(desk: AtDesk) -> Response:
    """What waits for a person, and how each model is doing."""
    with desk.context.ledger.read() as connection:
        models = [
            {
                "state": state,
                "rollout": rollouts.open_rollout(connection, state.model),
                "report": next(iter(views.find_reports(connection, model=state.model, limit=1)), None),
                "jobs": [job for job in jobs.find(connection, model=state.model) if job.finished_at is None],
            }
            for state in versions.model_states(connection)
        ]
        waiting = [
            (version, evidence.gates(version.evidence), evidence.metrics(version.evidence)[:1])
            for version in versions.find(connection, stages={Stage.AWAITING_APPROVAL})
        ]
        open_alerts = alerts.find(connection, open_only=True)
        return desk.page(
            "overview.html", connection, section="overview", models=models, waiting=waiting, alerts=open_alerts
        )


@router.get("/models/{model}")
def show_model(model: str, desk: AtDesk) -> Response:
    """Its versions, the classes proposed for it, its retrainings; rollback and retraining."""
    with desk.context.ledger.read() as connection:
        state = versions.model_state(connection, model)
        return desk.page(
            "model.html",
            connection,
            section="overview",
            state=state,
            versions=versions.find(connection, model=model),
            proposed=views.proposed_classes(connection, state, desk.context.settings.retrain),
            jobs=jobs.find(connection, model=model, limit=SHOWN),
        )


@router.get("/models/{model}/report")
def show_report(model: str, desk: AtDesk, since: date | None = None, until: date | None = None) -> Response:
    """The champion's report, or that of a version such as support@2: what it is worth, what moved, what to do."""
    from monitoring import dossier, report  # their statistics would slow every start of the service

    context, now = desk.context, desk.context.clock()
    begin, end = dossier.span_of(_midnight(since), _midnight(until))
    with context.ledger.read() as connection:
        version = dossier.version_named(connection, model)
        found = dossier.find(connection, version, since=begin, until=end, now=now)
    baseline, problem = dossier.read_baseline(context.registry, found)
    why = None if problem is None else "its bundle cannot be fetched or is damaged"  # the rest is for the host's eyes
    page = report.render_report(found, baseline, context.settings.monitor, made_at=now, problem=why)
    return HTMLResponse(page, headers=PLAIN_PAGE)


@router.post("/models/{model}/rollback")
def roll_back(model: str, operator: Acting, reason: Text = "") -> Response:
    """The version that was replaced serves again."""
    operator.rollback(model, reason=reason)
    return _to("models", model)


@router.post("/models/{model}/retrain")
def retrain(model: str, operator: Acting, reason: Text = "") -> Response:
    """Ask for a retraining."""
    operator.retrain(model, reason=reason)
    return _to("models", model)


@router.post("/models/{model}/recalibrate")
def recalibrate(model: str, operator: Acting, reason: Text = "") -> Response:
    """Ask for the champion with another temperature."""
    operator.recalibrate(model, reason=reason)
    return _to("models", model)


@router.get("/versions/{reference}")
def show_version(reference: str, desk: AtDesk) -> Response:
    """Everything that a person needs to approve or reject."""
    with desk.context.ledger.read() as connection:
        version = versions.get(connection, reference)
        return desk.page(
            "version.html",
            connection,
            section="overview",
            version=version,
            waits=version.stage is Stage.AWAITING_APPROVAL,
            outdated=versions.outdated(connection, version),
            approval=approvals.latest(connection, version),
            approval_hours=desk.context.settings.rollout.approval_hours,
            champion=versions.model_state(connection, version.model).production,
            gates=evidence.gates(version.evidence),
            metrics=evidence.metrics(version.evidence),
            slices=evidence.slices(version.evidence),
            classes=evidence.classes(version.evidence),
            changes=evidence.changes(version),
            recalibration=evidence.recalibration(version.evidence),
            history=audit.events(connection, subject=version.name),
        )


@router.post("/versions/{reference}/approve")
def approve(reference: str, operator: Acting, reason: Text = "", bundle_hash: Text = "") -> Response:
    """Approve the bundle that the page showed."""
    return _to("versions", operator.approve(reference, reason=reason, bundle_hash=bundle_hash).name)


@router.post("/versions/{reference}/reject")
def reject(reference: str, operator: Acting, reason: Text = "") -> Response:
    """Reject a candidate for good."""
    return _to("versions", operator.reject(reference, reason=reason).name)


@router.get("/rollouts")
def list_rollouts(desk: AtDesk) -> Response:
    """Newest first."""
    with desk.context.ledger.read() as connection:
        found = rollouts.find(connection, limit=SHOWN)
        return desk.page("rollouts.html", connection, section="rollouts", rollouts=found)


@router.get("/rollouts/{reference}")
def show_rollout(reference: str, desk: AtDesk) -> Response:
    """Where it stands, on which evidence; pause, resume, promote, abort."""
    with desk.context.ledger.read() as connection:
        rollout = find_rollout(connection, reference)
        return desk.page(
            "rollout.html",
            connection,
            section="rollouts",
            rollout=rollout,
            settings=desk.context.settings.rollout,
            history=[
                event
                for event in audit.events(connection, subject=rollout.model)
                if event.detail.get("rollout") == rollout.id
            ],
        )


@router.post("/rollouts/{reference}/{act}")
def change_rollout(reference: str, act: str, operator: Acting, reason: Text = "") -> Response:
    """Pause, resume, promote or abort."""
    acts = {act.__name__: act for act in (operator.pause, operator.resume, operator.promote, operator.abort)}
    if act not in acts:
        raise NotFound(f"a rollout cannot be made to {act}")
    return _to("rollouts", acts[act](reference, reason=reason).id)


@router.get("/drift")
def list_reports(desk: AtDesk, model: str = "") -> Response:
    """Verdicts of the windows, newest first."""
    with desk.context.ledger.read() as connection:
        return desk.page(
            "drift.html",
            connection,
            section="drift",
            models=[state.model for state in versions.model_states(connection)],
            model=model,
            reports=views.find_reports(connection, model=model or None, limit=SHOWN),
        )


@router.get("/alerts")
def list_alerts(desk: AtDesk) -> Response:
    """Open episodes, then past ones."""
    with desk.context.ledger.read() as connection:
        found = alerts.find(connection, limit=4 * SHOWN)
        return desk.page("alerts.html", connection, section="alerts", alerts=found)


@router.get("/audit")
def list_events(desk: AtDesk, subject: str = "") -> Response:
    """Who did what, and whether the chain of events is whole."""
    with desk.context.ledger.read() as connection:
        return desk.page(
            "audit.html",
            connection,
            section="audit",
            subject=subject,
            events=audit.events(connection, subject=subject or None),
            broken=audit.first_broken_link(connection),
        )


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), UTC)


def _to(*parts: str) -> Response:
    """To a page, so that reloading it does not repeat what was done."""
    return RedirectResponse("/".join([HOME, *map(in_path, parts)]), 303)
