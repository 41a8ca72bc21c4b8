"""`leeway erase`: one person's data, deleted for good."""

from __future__ import annotations

import click

from monitoring.core.cli import json_option, key_option, open_ledger, print_json
from monitoring.core.settings import load_settings
from monitoring.core.types import Role, utc_now


@click.command()
@click.option("--client", help="The key that came with the person's requests, as it was sent.")
@click.option("--prediction", help="The id of one prediction, as it was returned.")
@click.option("--reason", required=True, help="Why, for the audit trail; it must not name the person.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@key_option(Role.OPERATE)
@json_option
def erase(
    *, client: str | None, prediction: str | None, reason: str, yes: bool, key: str | None, as_json: bool
) -> None:
    """Delete what is kept of one client, or of one prediction: log, labels, examples and training data.

    Models stay as they are, what was counted over many, and rows of a file that was trained on: they name no client. On
    every other host that serves or trains, run it again: it ships that host's spool, and deletes its copies of training
    data.
    """
    from monitoring.cli_labels import person_with
    from monitoring.core.admission import Admission
    from monitoring.core.prediction_log import PredictionLog
    from training.erasure import Whose
    from training.erasure import erase as erase_person

    whose, settings = Whose(client, prediction), load_settings()
    ledger = open_ledger(settings)
    actor = person_with(ledger, key, Role.OPERATE)
    if not yes:
        click.confirm("It cannot be brought back. Erase?", abort=True, err=True)
    log = PredictionLog(settings.log_url, admission=Admission.of(settings.log))
    done = erase_person(whose, ledger=ledger, log=log, settings=settings, actor=actor, reason=reason, now=utc_now())
    ledger.close()
    if as_json:
        print_json({"rows": dict(done.rows), "waiting": done.waiting})
        return
    for name, count in done.rows.items():
        click.echo(f"{name.replace('_', ' ')}: {count:,}")
    if done.waiting:
        click.echo(
            "A serving process still has what it wrote last in its spool, erased rows perhaps among it. Restart it: "
            "the monitor then deletes that."
        )
