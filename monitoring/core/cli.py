"""The `leeway` command: gathers what each package brings, and turns errors into one readable line."""

from __future__ import annotations

import json
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import click

from monitoring.core.errors import LeewayError
from monitoring.core.types import utc_now

if TYPE_CHECKING:
    from monitoring.core.ledger.database import Ledger
    from monitoring.core.registry import Registry
    from monitoring.core.settings import Settings

GROUP = "leeway.commands"


class Program(click.Group):
    """The command group; a LeewayError ends it with exit code 1 and its message, never a stack trace."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except LeewayError as error:
            click.echo(click.style("error: ", fg="red", bold=True, reset=True) + error.message, err=True)
            ctx.exit(1)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="leeway")
def program() -> None:
    """Keep fine-tuned text models true: serve, watch, retrain, approve, roll out, roll back."""


def main() -> None:
    """Entry point of the console script."""
    for entry in sorted(entry_points(group=GROUP), key=lambda item: item.name):
        for command in entry.load():
            program.add_command(command)
    program()


def open_ledger(settings: Settings) -> Ledger:
    """The ledger of these settings, at the newest schema."""
    from monitoring.core.ledger.database import Ledger

    ledger = Ledger.open(settings.ledger_url)
    ledger.upgrade()
    return ledger


def open_registry(settings: Settings, ledger: Ledger) -> Registry:
    """The registry of these settings."""
    from monitoring.core.registry import Registry
    from monitoring.core.storage import Storage

    return Registry(ledger, Storage(settings.store_url), settings.cache_dir, utc_now)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")
