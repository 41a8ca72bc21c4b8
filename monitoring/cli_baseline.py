"""`leeway baseline`: what a model's traffic is compared with, changed on the record."""

from __future__ import annotations

from datetime import datetime

import click

from monitoring.cli_report import Moment
from monitoring.core.cli import json_option, key_option, open_ledger, open_registry, print_json
from monitoring.core.settings import load_settings
from monitoring.core.types import Role, utc_now


@click.command()
@click.argument("model")
@click.option("--since", type=Moment, required=True, help="Begin of the span, UTC: 2026-01-31 or 2026-01-31T08:00.")
@click.option("--until", type=Moment, required=True, help="End of the span, UTC; a day without a time is part of it.")
@click.option("--accept-drift", is_flag=True, help="Also where the span was judged to be drift: it is the new normal.")
@click.option("--reason", required=True, help="Why, for the audit trail.")
@key_option(Role.OPERATE)
@json_option
def baseline(
    *, model: str, since: datetime, until: datetime, accept_drift: bool, reason: str, key: str | None, as_json: bool
) -> None:
    """Make MODEL's own answers of a span what its traffic is compared with from now on.

    Detector, windows and slices start anew. What is good enough stays: accuracy and confidences are still held against
    the version's hold-out.
    """
    from monitoring.cli_labels import person_with
    from monitoring.core.plain import plain
    from monitoring.core.prediction_log import PredictionLog
    from monitoring.dossier import span_of
    from monitoring.rebaseline import change_baseline

    begin, end = span_of(since, until)
    assert begin is not None
    assert end is not None
    settings = load_settings()
    ledger = open_ledger(settings)
    changed = change_baseline(
        ledger,
        PredictionLog(settings.log_url),
        open_registry(settings, ledger),
        settings,
        model,
        since=begin,
        until=end,
        actor=person_with(ledger, key, Role.OPERATE),
        reason=reason,
        accept_drift=accept_drift,
        now=utc_now(),
    )
    ledger.close()
    if as_json:
        print_json(plain({**vars(changed.change), "version": changed.version.name, "notes": changed.notes}))
        return
    change = changed.change
    span = f"{change.since:%Y-%m-%d %H:%M} to {change.until:%Y-%m-%d %H:%M} UTC"
    click.echo(f"{changed.version.name} is compared with {change.n:,} of its own answers from now on, {span}.")
    for note in changed.notes:
        click.echo(f"- {note}")
