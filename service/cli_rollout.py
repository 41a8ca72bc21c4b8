"""`leeway rollout list · show · pause · resume · promote · abort`. ROLLOUT is an id, or a model: then its newest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from service.cli_common import acting, json_option, model_option, open_home, operator, say, show_table

if TYPE_CHECKING:
    from monitoring.core.types import Rollout
    from service.operation import Operator


@click.group()
def rollout() -> None:
    """Look at rollouts, or take a hand in one."""


@rollout.command("list")
@model_option
@json_option
def list_rollouts(*, model: str | None, as_json: bool) -> None:
    """List rollouts, newest first."""
    from monitoring.core.cli import print_json
    from monitoring.core.ledger import rollouts, versions
    from service.views import rollout_view

    _, ledger = open_home()
    with ledger.read() as connection:
        if model is not None:
            versions.model_state(connection, model)
        views = [rollout_view(connection, found) for found in rollouts.find(connection, model=model)]
    if as_json:
        print_json({"rollouts": views})
    elif not views:
        click.echo("None so far: an approved candidate begins one.")
    else:
        columns = ["model", "champion → candidate", "phase", "stage", "traffic", "why it stands there"]
        show_table("Rollouts", columns, [_row(view) for view in views])


@rollout.command()
@click.argument("rollout")
@json_option
def show(*, rollout: str, as_json: bool) -> None:
    """Show one rollout and the evidence it stands on."""
    from service.operation import find_rollout
    from service.views import rollout_view

    _, ledger = open_home()
    with ledger.read() as connection:
        view = rollout_view(connection, find_rollout(connection, rollout))
    say("\n".join(_lines(view)), view, as_json=as_json)


@rollout.command()
@click.argument("rollout")
@acting
def pause(*, rollout: str, reason: str, key: str | None, as_json: bool) -> None:
    """Keep it from advancing; traffic stays as it is."""
    person = operator(key)
    _tell(person, person.pause(rollout, reason=reason), as_json=as_json)


@rollout.command()
@click.argument("rollout")
@acting
def resume(*, rollout: str, reason: str, key: str | None, as_json: bool) -> None:
    """Let a paused one go on; its step gets a new deadline."""
    person = operator(key)
    _tell(person, person.resume(rollout, reason=reason), as_json=as_json)


@rollout.command()
@click.argument("rollout")
@acting
def promote(*, rollout: str, reason: str, key: str | None, as_json: bool) -> None:
    """Make the candidate the champion without waiting for the verdict."""
    person = operator(key)
    _tell(person, person.promote(rollout, reason=reason), as_json=as_json)


@rollout.command()
@click.argument("rollout")
@acting
def abort(*, rollout: str, reason: str, key: str | None, as_json: bool) -> None:
    """Give all traffic back to the champion."""
    person = operator(key)
    _tell(person, person.abort(rollout, reason=reason), as_json=as_json)


def _tell(person: Operator, changed: Rollout, *, as_json: bool) -> None:
    from service.views import rollout_view

    with person.ledger.read() as connection:
        view = rollout_view(connection, changed)
    say("\n".join(_lines(view)), view, as_json=as_json)


def _row(view: Mapping[str, Any]) -> list[str]:
    versions = f"{view['champion_name']} → {view['candidate_name']}"
    return [view["model"], versions, view["phase"], view["stage"], f"{view['share']:.0%}", view["reason"]]


def _lines(view: Mapping[str, Any]) -> list[str]:
    traffic = f"{view['stage']}, {view['share']:.0%} of the traffic"
    lines = [f"{view['champion_name']} → {view['candidate_name']}: {view['phase']}, {traffic}", f"  {view['reason']}"]
    for name in ("accuracy", "errors", "latency"):
        found = view["analysis"].get(name)
        if found is not None and found["difference"] is not None:
            difference = f"{found['difference']:+.1%} [{found['low']:+.1%}, {found['high']:+.1%}], {found['verdict']}"
            keys = f"{found['n_candidate']} candidate and {found['n_champion']} champion keys"
            lines.append(f"  {name}: {difference}, {keys}")
    return lines
