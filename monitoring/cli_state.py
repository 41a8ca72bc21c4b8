"""`leeway status`, `leeway doctor` and `leeway audit`: reading only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from monitoring.core.cli import json_option, open_ledger, print_json
from monitoring.core.settings import load_settings
from monitoring.core.types import RetrainCause, Stage, utc_now

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from monitoring.core.types import ModelState, TrainingJob

COLOURS = {"good": "green", "note": "yellow", "bad": "red"}


@click.command()
@json_option
def status(*, as_json: bool) -> None:
    """What serves, what waits for a person, and what is under way."""
    ledger = open_ledger(load_settings())
    with ledger.read() as connection:
        found = read_status(connection)
    ledger.close()
    if as_json:
        print_json(found)
    else:
        _show_status(found)


@click.command()
@click.option("--notify", is_flag=True, help="Only send a test message to everybody who is told of alerts.")
@json_option
@click.pass_context
def doctor(context: click.Context, *, notify: bool, as_json: bool) -> None:
    """Explain what Leeway sees and what is wrong; exit code 1 where something keeps it from working."""
    from monitoring.doctor import Health, examine, try_receivers

    settings, now = load_settings(), utc_now()
    checks = list(try_receivers(settings, now=now)) if notify else examine(settings, now=now)
    if as_json:
        print_json({"checks": [vars(check) for check in checks]})
    else:
        for check in checks:
            health = click.style(f"{check.health:5}", fg=COLOURS[check.health])
            click.echo(f"{health} {check.name:20} {check.found}")
    context.exit(int(any(check.health is Health.BAD for check in checks)))


@click.command()
@click.option("--subject", help="A model, version or key.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@json_option
@click.pass_context
def audit(context: click.Context, *, subject: str | None, limit: int, as_json: bool) -> None:
    """Who did what, and why, newest first; exit code 1 where the trail was altered."""
    from monitoring.core.ledger import audit as trail

    ledger = open_ledger(load_settings())
    with ledger.read() as connection:
        events = trail.events(connection, subject=subject, limit=limit)
        broken = trail.first_broken_link(connection)
    ledger.close()
    if as_json:
        print_json({"unbroken": broken is None, "first_broken": broken, "events": [vars(event) for event in events]})
    else:
        for event in events:
            click.echo(
                f"{event.at:%Y-%m-%d %H:%M:%S} UTC  {event.actor}  {event.action}  {event.subject}: {event.reason}"
            )
        if broken is not None:
            click.echo(f"the trail was altered at event {broken}", err=True)
    context.exit(int(broken is not None))


def read_status(connection: Connection) -> dict[str, Any]:
    """All that `leeway status` shows, as plain values."""
    from monitoring.core.ledger import alerts, jobs, rollouts, versions
    from monitoring.core.lifecycle import OPEN_JOBS

    waiting = versions.find(connection, stages=[Stage.AWAITING_APPROVAL])
    under_way = [job for job in jobs.find(connection) if job.state in OPEN_JOBS]
    names = {version.id: version.name for version in versions.find(connection)}
    return {
        "models": [_model(connection, state, names) for state in versions.model_states(connection)],
        "candidates": [
            {"version": version.name, "id": version.id, "since": version.created_at.isoformat()} for version in waiting
        ],
        "rollouts": [
            {
                "model": rollout.model,
                "candidate": names[rollout.candidate],
                "phase": rollout.phase,
                "stage": rollout.stage,
                "step": rollout.step,
                "share": rollout.share,
                "reason": rollout.reason,
            }
            for rollout in rollouts.open_rollouts(connection)
        ],
        "alerts": [
            {
                "model": alert.model,
                "name": alert.name,
                "severity": alert.severity,
                "summary": alert.summary,
                "since": alert.started_at.isoformat(),
            }
            for alert in alerts.find(connection, open_only=True)
        ],
        "jobs": [
            {"model": job.model, "cause": job.cause, "state": job.state, "id": job.id, "reason": job.reason}
            for job in under_way
        ],
    }


def _model(connection: Connection, state: ModelState, names: dict[str, str]) -> dict[str, Any]:
    from monitoring.core.ledger import jobs, labels, verdicts, versions

    serving = None if state.production is None else versions.get(connection, state.production)
    readings = {version: values for _, version, values, _ in verdicts.load_gauges(connection)}
    champion = readings.get(state.production or "", {})
    return {
        "model": state.model,
        "champion": names.get(state.production or ""),
        "precision": None if serving is None else (serving.evidence.get("parity") or {}).get("precision"),
        "previous": names.get(state.previous or ""),
        "watch_until": None if state.watch_until is None else state.watch_until.isoformat(),
        "predictions_seen": champion.get("seen", 0),
        "estimated_accuracy": champion.get("estimated"),
        "realised_accuracy": champion.get("realised"),
        "baseline_accuracy": champion.get("baseline_accuracy"),
        "proposed_classes": {}
        if state.production is None
        else labels.proposed_classes(connection, state.model, state.production),
        "last_job": _finished(connection, jobs.last_finished(connection, state.model)),
    }


def _finished(connection: Connection, job: TrainingJob | None) -> dict[str, Any] | None:
    """A retraining that has ended: what came of it then, and what has become of its version since."""
    from monitoring.core.ledger import audit, versions

    if job is None or job.finished_at is None:
        return None
    found = {
        "cause": job.cause,
        "state": job.state,
        "finished_at": job.finished_at.isoformat(),
        "reason": job.result.get("reason", "its result gives no reason"),
        "version": job.result.get("name"),
        "since_then": None,
    }
    if "version" in job.result:
        version = versions.get(connection, job.result["version"])
        if version.stage != job.result.get("stage"):
            (latest,) = audit.events(connection, subject=version.name, limit=1)
            found["since_then"] = f"{version.stage.replace('_', ' ')}: {latest.reason}"
    return found


def _show_status(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not found["models"]:
        console.print("no model yet: `leeway train --data FILE` makes one")
        return
    table = Table("model", "champion", "seen", "accuracy at birth", "estimated now", "by labels")
    table.add_column("proposed classes", overflow="fold")
    for model in found["models"]:
        table.add_row(
            model["model"],
            (model["champion"] or "none") + (f" ({model['precision']})" if model["precision"] else ""),
            f"{model['predictions_seen']:,}",
            _share(model["baseline_accuracy"]),
            _share((model["estimated_accuracy"] or {}).get("value")),
            _share((model["realised_accuracy"] or {}).get("value")),
            ", ".join(f"{name} ({count})" for name, count in model["proposed_classes"].items()),
        )
    console.print(table)
    for alert in found["alerts"]:
        console.print(f"[red]alert[/]     {alert['severity']} {alert['name']}: {alert['summary']}")
    for rollout in found["rollouts"]:
        console.print(
            f"rollout   {rollout['candidate']}: {rollout['phase']}, {rollout['stage']}, "
            f"{rollout['share']:.0%} of traffic; {rollout['reason']}"
        )
    for candidate in found["candidates"]:
        console.print(
            f'[yellow]waiting[/]   {candidate["version"]}: leeway approve {candidate["version"]} --reason "…"'
        )
    for job in found["jobs"]:
        console.print(f"job       {job['model']}: {job['state']} ({job['cause']}), {job['reason']}")
    for model in found["models"]:
        if model["last_job"] is not None:
            console.print(_last_retraining(model["model"], model["last_job"]), markup=False, highlight=False)


def _last_retraining(model: str, job: dict[str, Any]) -> str:
    failed = "" if job["version"] else f"{model}: {job['state']}: "
    since = f"; since then {job['since_then']}" if job["since_then"] else ""
    kind = "recalibration" if job["cause"] == RetrainCause.CALIBRATION else "retraining"
    return f"last {kind} ({job['cause']}, {job['finished_at'][:16]}): {failed}{job['reason']}{since}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
