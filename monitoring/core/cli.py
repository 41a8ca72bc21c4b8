"""The `leeway` command: gathers what each package brings, and turns errors into one readable line."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

import click

from monitoring.core.errors import LeewayError, MisConfigured
from monitoring.core.types import Role, utc_now

if TYPE_CHECKING:
    from monitoring.core.ledger.database import Ledger
    from monitoring.core.registry import Registry
    from monitoring.core.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])
GROUP = "leeway.commands"
LISTENING = "listening on "
"""What a role says, with its URL, once its port is its own: `leeway up` waits for it."""


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def key_option(role: Role) -> Callable[[Command], Command]:
    """Who asks, of those that have the role."""
    told = f"API key with the role {role}; better given as LEEWAY_API_KEY."
    return click.option("--key", envvar="LEEWAY_API_KEY", help=told)


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


def open_ledger(settings: Settings, *, create: bool = False) -> Ledger:
    """The ledger of these settings, at the newest schema. Raises MisConfigured where no file is there to `create`."""
    from monitoring.core.ledger.database import Ledger

    ledger = Ledger.open(settings.ledger_url, create=create)
    ledger.upgrade()
    return ledger


def open_registry(settings: Settings, ledger: Ledger) -> Registry:
    """The registry of these settings."""
    from monitoring.core.registry import Registry
    from monitoring.core.storage import Storage

    return Registry(ledger, Storage(settings.store_url), settings.cache_dir, utc_now)


def cannot_listen(section: str, host: str, port: int, error: OSError) -> MisConfigured:
    """What to say where the address that the settings of `section` name cannot be had."""
    from monitoring.core.settings import CONFIG_FILE

    variable = f"{section}.port in {CONFIG_FILE}, or LEEWAY_{section.upper()}__PORT"
    if error.errno == errno.EADDRINUSE:
        said = f"port {port} on {host} is taken by another process: stop that one, or set another {variable}"
    else:
        said = f"port {port} on {host} cannot be had ({error.strerror or error}): set {section}.host or {variable}"
    return MisConfigured(said, field=f"{section}.port")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")
