"""What the service's commands share: the ledger of the home folder, the person behind a key, the usual options."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from monitoring.core.ledger.database import Ledger
    from monitoring.core.settings import Settings
    from service.operation import Operator

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
model_option = click.option("--model", help="Only this model.")


def acting(command: Command) -> Command:
    """The options of a command that changes something: why, who, and how to say what came of it."""
    for option in (
        json_option,
        click.option("--key", envvar="LEEWAY_API_KEY", help="API key; better given as LEEWAY_API_KEY, or when asked."),
        click.option("--reason", required=True, help="Why, for the audit trail."),
    ):
        command = option(command)
    return command


def open_home() -> tuple[Settings, Ledger]:
    """Settings and ledger of the home folder. Raises MisConfigured where `leeway init` has not been run."""
    from monitoring.core.cli import open_ledger
    from monitoring.core.settings import load_settings

    settings = load_settings()
    return settings, open_ledger(settings)


def operator(key: str | None) -> Operator:
    """Whoever holds the key, asked for if it was not given. Raises NotAuthenticated."""
    from monitoring.core.errors import NotAuthenticated
    from monitoring.core.ledger import access
    from monitoring.core.types import utc_now
    from service.operation import Operator

    settings, ledger = open_home()
    if not key and not sys.stdin.isatty():
        raise NotAuthenticated("no API key: set LEEWAY_API_KEY or pass --key")
    secret = key or click.prompt("API key", hide_input=True, err=True)
    with ledger.read() as connection:
        person = access.authenticate(connection, secret.strip())
    return Operator(person, ledger, settings.rollout, utc_now)


def say(message: str, view: Any, *, as_json: bool) -> None:
    """What came of it: for a program all of it, for a person one line."""
    from monitoring.core.cli import print_json

    if as_json:
        print_json(view)
    else:
        click.echo(message)


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # no name is cut: it may be what is to be approved
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
