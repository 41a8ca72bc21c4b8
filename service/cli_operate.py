"""`leeway candidates · approve · reject · rollback · retrain · recalibrate`: the operation API at the terminal.

They work on the ledger itself, so they also do while nothing serves; changes need a key with the role, as over HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from service.cli_common import acting, json_option, model_option, open_home, operator, say, show_table


@click.command()
@model_option
@json_option
def candidates(*, model: str | None, as_json: bool) -> None:
    """List versions between training and verdict, and what they have shown."""
    from monitoring.core.cli import print_json
    from monitoring.core.ledger import versions
    from monitoring.core.lifecycle import UNDECIDED
    from service.views import version_view

    _, ledger = open_home()
    with ledger.read() as connection:
        if model is not None:
            versions.model_state(connection, model)
        found = versions.find(connection, model=model, stages=UNDECIDED)
        views = [version_view(connection, version) for version in found]
    if as_json:
        print_json({"candidates": views})
    elif not views:
        click.echo("No version waits or is being rolled out.")
    else:
        columns = ["version", "stage", "gates", "accuracy", "champion's", "what changes", "made, UTC"]
        show_table("Candidates", columns, [_candidate_row(view) for view in views])
        for view in views:
            if view["outdated"]:
                click.echo(f"\n{view['name']} cannot be approved: {view['outdated']}, and reject it.")
        waiting = [view["name"] for view in views if view["stage"] == "awaiting_approval" and not view["outdated"]]
        if waiting:
            click.echo(f"\nApprove with: leeway approve {waiting[0]} --reason '…'")


@click.command()
@click.argument("version")
@click.option("--bundle-hash", help="Hash of the bundle that you reviewed: refused if another is registered.")
@acting
def approve(*, version: str, bundle_hash: str | None, reason: str, key: str | None, as_json: bool) -> None:
    """Approve a candidate such as support@2; needs a key with the role approve."""
    from service.views import version_view

    person = operator(key)
    approved = person.approve(version, reason=reason, bundle_hash=bundle_hash)
    with person.ledger.read() as connection:
        view = version_view(connection, approved)
    follows = {
        "approved": "its rollout begins in shadow as soon as every serving process has loaded it",
        "production": "the model's first version, it goes into production at once",
    }
    said = f"{approved.name} is approved by {person.person.name}: {follows[approved.stage]}."
    say(said, view, as_json=as_json)


@click.command()
@click.argument("version")
@acting
def reject(*, version: str, reason: str, key: str | None, as_json: bool) -> None:
    """Reject a candidate for good; needs a key with the role approve."""
    from service.views import version_view

    person = operator(key)
    rejected = person.reject(version, reason=reason)
    with person.ledger.read() as connection:
        view = version_view(connection, rejected)
    say(f"{rejected.name} is rejected by {person.person.name}.", view, as_json=as_json)


@click.command()
@click.argument("model")
@acting
def rollback(*, model: str, reason: str, key: str | None, as_json: bool) -> None:
    """Undo the model's last promotion, while it is being watched."""
    from service.views import version_view

    person = operator(key)
    restored = person.rollback(model, reason=reason)
    with person.ledger.read() as connection:
        view = version_view(connection, restored)
    say(f"{restored.name} serves {model} again.", view, as_json=as_json)


@click.command()
@click.argument("model")
@acting
def retrain(*, model: str, reason: str, key: str | None, as_json: bool) -> None:
    """Ask for a retraining; a worker takes it up."""
    from monitoring.core.plain import plain

    job = operator(key).retrain(model, reason=reason)
    say(f"Asked for a retraining of {model} (job {job.id}).", plain(job), as_json=as_json)


@click.command()
@click.argument("model")
@acting
def recalibrate(*, model: str, reason: str, key: str | None, as_json: bool) -> None:
    """Ask for MODEL's champion with a better temperature: its labels stay, its confidences become true again."""
    from monitoring.core.plain import plain

    job = operator(key).recalibrate(model, reason=reason)
    say(f"Asked for a recalibration of {model} (job {job.id}).", plain(job), as_json=as_json)


def _candidate_row(view: Mapping[str, Any]) -> list[str]:
    evidence = view["evidence"]
    gates = evidence.get("gates") or []
    changes = evidence.get("changes") or {}
    added = ", ".join(changes.get("classes_added") or [])
    return [
        view["name"],
        view["stage"].replace("_", " "),
        f"{sum(bool(gate['passed']) for gate in gates)}/{len(gates)}" if gates else "–",
        _accuracy(evidence, "candidate"),
        _accuracy(evidence, "champion"),
        _temperature(evidence) or f"{changes.get('new_labels', 0)} new labels" + (f", learns {added}" if added else ""),
        str(view["created_at"])[5:16].replace("T", " "),
    ]


def _temperature(evidence: Mapping[str, Any]) -> str:
    """Of a recalibration."""
    changed = (evidence.get("recalibration") or {}).get("temperature")
    return f"temperature {changed['before']:.2f} → {changed['after']:.2f}" if changed else ""


def _accuracy(evidence: Mapping[str, Any], side: str) -> str:
    value = ((evidence.get("metrics") or {}).get(side) or {}).get("accuracy")
    return "–" if value is None else f"{value:.1%}"
