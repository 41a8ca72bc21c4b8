"""The state of things as plain JSON: what the API answers and what `--json` prints."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from monitoring.core.ledger import alerts, approvals, jobs, labels, rollouts, verdicts, versions
from monitoring.core.lifecycle import OPEN_JOBS
from monitoring.core.plain import plain
from monitoring.core.settings import RetrainSettings
from monitoring.core.types import DriftReport, ModelState, ModelVersion, Rollout, Stage


def model_view(connection: Connection, state: ModelState, settings: RetrainSettings) -> dict[str, Any]:
    """A model: who serves, who stands by, what is under way, and which classes its callers propose."""
    rollout = rollouts.open_rollout(connection, state.model)
    waiting = versions.find(connection, model=state.model, stages={Stage.AWAITING_APPROVAL})
    return {
        "name": state.model,
        "champion": name_of(connection, state.production),
        "previous": name_of(connection, state.previous),
        "watch_until": plain(state.watch_until),
        "promoted_at": plain(state.promoted_at),
        "rollout": None if rollout is None else rollout.id,
        "awaiting_approval": [version.name for version in waiting],
        "open_jobs": [job.id for job in jobs.find(connection, model=state.model) if job.state in OPEN_JOBS],
        "open_alerts": [alert.name for alert in alerts.find(connection, model=state.model, open_only=True)],
        "proposed_classes": proposed_classes(connection, state, settings),
    }


def proposed_classes(connection: Connection, state: ModelState, settings: RetrainSettings) -> list[dict[str, Any]]:
    """Labels that feedback used and the champion lacks, the most frequent first, with what will become of each."""
    if state.production is None:
        return []
    needed = settings.new_class_examples
    return [
        {"label": label, "examples": count, "needed": needed, "note": _note_on_class(count, needed)}
        for label, count in labels.proposed_classes(connection, state.model, state.production).items()
    ]


def version_view(connection: Connection, version: ModelVersion) -> dict[str, Any]:
    """A version, with the newest decision on it."""
    values: dict[str, Any] = plain(version)
    del values["bundle_uri"]  # where it is stored is nobody's business but the registry's
    rival = version.lineage.get("parent")
    return values | {
        "name": version.name,
        "approval": plain(approvals.latest(connection, version)),
        "measured_against": None if rival is None else versions.name_of(connection, rival),
        "outdated": versions.outdated(connection, version),
    }


def rollout_view(connection: Connection, rollout: Rollout) -> dict[str, Any]:
    """A rollout, with its versions' names beside their ids."""
    return {
        **plain(rollout),
        "candidate_name": name_of(connection, rollout.candidate),
        "champion_name": name_of(connection, rollout.champion),
    }


def report_view(connection: Connection, report_id: str, report: DriftReport) -> dict[str, Any]:
    """A drift report, with its id and its version's name."""
    return {"id": report_id, **plain(report), "version_name": name_of(connection, report.version)}


def find_reports(connection: Connection, *, model: str | None, limit: int) -> list[tuple[str, DriftReport]]:
    """Drift reports with their ids, newest first, of one model or all."""
    models = [state.model for state in versions.model_states(connection)] if model is None else [model]
    found = [entry for name in models for entry in verdicts.reports(connection, name, limit=limit)]
    return sorted(found, key=lambda entry: entry[1].window_end, reverse=True)[:limit]


def name_of(connection: Connection, version: str | None) -> str | None:
    """`support@3` for a version's id."""
    return None if version is None else versions.get(connection, version).name


def _note_on_class(count: int, needed: int) -> str:
    if count >= needed:
        return f"{count} examples: the next retraining adds it"
    return f"{count} of {needed} examples: added by retraining from {needed} examples on"
