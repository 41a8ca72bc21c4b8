"""Commands of the monitoring package: setting up, watching, and looking at what the ledger knows."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import click

from monitoring.cli_backtest import backtest
from monitoring.cli_labels import labels
from monitoring.cli_state import audit, doctor, status
from monitoring.core.cli import LISTENING, open_ledger, print_json
from monitoring.core.errors import Conflict, NotReady
from monitoring.core.settings import CONFIG_FILE, load_settings
from monitoring.core.types import Role, utc_now

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command()
@click.option("--name", default=getpass.getuser, show_default="your user name", help="Whom the first key is for.")
@as_json_option
def init(*, name: str, as_json: bool) -> None:
    """Make a home folder: settings, ledger, and the first API key, which is shown once."""
    from monitoring.core.ledger import access
    from monitoring.starter import starter_config

    settings = load_settings()
    home = settings.home.absolute()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)  # texts and the ledger are nobody else's; one there is let be
    config = home / CONFIG_FILE
    if not config.exists():
        config.write_text(starter_config())
    ledger = open_ledger(settings)
    with ledger.begin() as connection:
        if access.has_keys(connection):
            raise Conflict(f"{home} is set up already; make further keys with `leeway keys add`", field="home")
        key = access.add_key(connection, name=name, roles=Role, actor="leeway init", now=utc_now())
    ledger.close()
    if as_json:
        print_json({"home": str(home), "key": key, "name": name, "config": str(config)})
        return
    click.echo(f"home folder: {home}\nsettings:    {config}\n")
    click.echo(f"API key of {name}, with every role; it is not shown again:\n\n    {key}\n")
    click.echo("next: `leeway train --data FILE` makes a model, `leeway up` serves and watches it")


@click.command()
def monitor() -> None:
    """Ship predictions, watch every model, send alerts and ask for retraining, until SIGTERM or Ctrl-C."""
    import logging
    import signal
    import threading

    from monitoring.process import MonitorProcess

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("monitoring").setLevel(logging.INFO)
    settings = load_settings()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    process = MonitorProcess(settings, utc_now)
    port = process.start()
    log = logging.getLogger(__name__)
    log.info("watching; " + LISTENING + "http://%s:%d/metrics", settings.monitor.host, port)
    stopping.wait()
    log.info("stopping: what is under way is finished first")
    process.stop()


@click.command()
@click.argument("model")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="HTML file to write.")
@as_json_option
def report(*, model: str, out: Path, as_json: bool) -> None:
    """Write a page on MODEL's champion: accuracy, drift, calibration, and what moved."""
    from monitoring.core.ledger import alerts, labels, verdicts, versions
    from monitoring.core.types import Variant
    from monitoring.report import MAX_WINDOWS, render_report

    settings = load_settings()
    ledger = open_ledger(settings)
    with ledger.read() as connection:
        production = versions.model_state(connection, model).production
        if production is None:
            raise NotReady(f"{model} has no production version to report on; `leeway candidates` lists what waits")
        version = versions.get(connection, production)
        found = verdicts.reports(connection, model, version=production, limit=MAX_WINDOWS)
        known = {kept: values for _, kept, values, _ in verdicts.load_gauges(connection)}
        history = alerts.find(connection, model=model)
        outcomes = labels.find_outcomes(connection, version=production, variants=[Variant.PRODUCTION])
    ledger.close()
    page = render_report(
        [kept for _, kept in reversed(found)],
        version,
        baseline_accuracy=known.get(production, {}).get("baseline_accuracy"),
        leeway=settings.monitor.leeway,
        alerts=history,
        outcomes=outcomes,
        made_at=utc_now(),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page)
    if as_json:
        latest = found[0][1] if found else None
        verdict = None if latest is None else latest.verdict
        print_json({"file": str(out), "version": version.name, "windows": len(found), "verdict": verdict})
    else:
        click.echo(f"{out}: {len(found)} windows of {version.name}")


@click.group()
def keys() -> None:
    """API keys: who may predict, give feedback, operate and approve."""


@keys.command("add")
@click.argument("name")
@click.option(
    "--role",
    "roles",
    required=True,
    multiple=True,
    type=click.Choice([role.value for role in Role]),
    help="May be repeated.",
)
@as_json_option
def add_key(*, name: str, roles: tuple[str, ...], as_json: bool) -> None:
    """Make a key for a person or service; it is shown once."""
    from monitoring.core.ledger import access

    ledger = open_ledger(load_settings())
    with ledger.begin() as connection:
        granted = frozenset(map(Role, roles))
        key = access.add_key(connection, name=name, roles=granted, actor=getpass.getuser(), now=utc_now())
    ledger.close()
    if as_json:
        print_json({"name": name, "roles": sorted(granted), "key": key})
    else:
        click.echo(f"API key of {name} ({', '.join(sorted(granted))}); it is not shown again:\n\n    {key}")


@keys.command("list")
@as_json_option
def list_keys(*, as_json: bool) -> None:
    """Who has a key, with which roles."""
    from monitoring.core.ledger import access

    ledger = open_ledger(load_settings())
    with ledger.read() as connection:
        found = access.find_keys(connection)
    ledger.close()
    if as_json:
        print_json({"keys": [{**vars(key), "roles": sorted(key.roles)} for key in found]})
        return
    for key in found:
        state = "" if key.revoked_at is None else f"  revoked {key.revoked_at:%Y-%m-%d}"
        click.echo(f"{key.name}  {', '.join(sorted(key.roles))}{state}")


@keys.command("revoke")
@click.argument("name")
@click.option("--reason", required=True, help="For the audit trail.")
@as_json_option
def revoke_key(*, name: str, reason: str, as_json: bool) -> None:
    """End a key and every login made with it."""
    from monitoring.core.ledger import access

    ledger = open_ledger(load_settings())
    with ledger.begin() as connection:
        access.revoke_key(connection, name, actor=getpass.getuser(), reason=reason, now=utc_now())
    ledger.close()
    answer: dict[str, Any] = {"name": name, "revoked": True}
    if as_json:
        print_json(answer)
    else:
        click.echo(f"the key of {name} is revoked")


commands = [init, monitor, backtest, report, status, doctor, audit, labels, keys]
