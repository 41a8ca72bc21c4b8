"""Commands of the monitoring package: setting up, watching, and looking at what the ledger knows."""

from __future__ import annotations

import getpass
import os
from typing import Any

import click

from monitoring.cli_backtest import backtest
from monitoring.cli_baseline import baseline
from monitoring.cli_labels import labels
from monitoring.cli_report import report
from monitoring.cli_state import audit, doctor, status
from monitoring.core.cli import LISTENING, json_option, open_ledger, print_json
from monitoring.core.errors import Conflict
from monitoring.core.settings import CONFIG_FILE, load_settings
from monitoring.core.types import Role, utc_now


def this_person() -> str:
    """Name of whoever runs the command; the number of a user that the system has no name for, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@click.command()
@click.option("--name", default=this_person, show_default="your user name", help="Whom the first key is for.")
@json_option
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
    ledger = open_ledger(settings, create=True)
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

    from monitoring.core.cores import one_algebra_thread
    from monitoring.process import MonitorProcess

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("monitoring").setLevel(logging.INFO)
    settings = load_settings()
    one_algebra_thread()
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
@json_option
def add_key(*, name: str, roles: tuple[str, ...], as_json: bool) -> None:
    """Make a key for a person or service; it is shown once."""
    from monitoring.core.ledger import access

    ledger = open_ledger(load_settings())
    with ledger.begin() as connection:
        granted = frozenset(map(Role, roles))
        key = access.add_key(connection, name=name, roles=granted, actor=this_person(), now=utc_now())
    ledger.close()
    if as_json:
        print_json({"name": name, "roles": sorted(granted), "key": key})
    else:
        click.echo(f"API key of {name} ({', '.join(sorted(granted))}); it is not shown again:\n\n    {key}")


@keys.command("list")
@json_option
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
@json_option
def revoke_key(*, name: str, reason: str, as_json: bool) -> None:
    """End a key and every login made with it."""
    from monitoring.core.ledger import access

    ledger = open_ledger(load_settings())
    with ledger.begin() as connection:
        access.revoke_key(connection, name, actor=this_person(), reason=reason, now=utc_now())
    ledger.close()
    answer: dict[str, Any] = {"name": name, "revoked": True}
    if as_json:
        print_json(answer)
    else:
        click.echo(f"the key of {name} is revoked")


commands = [init, monitor, backtest, baseline, report, status, doctor, audit, labels, keys]
