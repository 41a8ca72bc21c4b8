"""`leeway labels`: which answers to label, as a file for people or their tools, and the labels back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from monitoring.core.cli import json_option, open_ledger, print_json
from monitoring.core.settings import load_settings
from monitoring.core.types import Role, utc_now

if TYPE_CHECKING:
    from monitoring.core.ledger.database import Ledger

FORMATS = ("csv", "jsonl", "label-studio", "argilla")


@click.group()
def labels() -> None:
    """Labels: ask for the most telling ones, and take them in."""


@labels.command("queue")
@click.argument("model")
@click.option("--size", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Answers to label.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.option("--format", "kind", type=click.Choice(FORMATS), default="csv", show_default=True)
@json_option
def queue(*, model: str, size: int, out: Path, kind: str, as_json: bool) -> None:
    """Write which of MODEL's newest answers to label: a random part, what has drifted, what it is unsure of."""
    from collections import Counter

    from monitoring.asking import ask
    from monitoring.core.prediction_log import PredictionLog
    from monitoring.label_files import NEED_TEXT, write_queue

    settings = load_settings()
    ledger = open_ledger(settings)
    log = PredictionLog(settings.log_url)
    version, items = ask(ledger, log, settings, model, size=size, now=utc_now(), with_texts=kind in NEED_TEXT)
    ledger.close()
    files = write_queue(out, kind, items, version)
    parts = Counter(item.part.value for item in items)
    if as_json:
        summary = {"files": list(map(str, files)), "version": version.name, "labels": version.labels}
        print_json({**summary, "items": len(items), "parts": parts, "random_share": settings.labels.random_share})
        return
    counted = ", ".join(f"{count} {part}" for part, count in parts.items())
    click.echo(f"{out}: {len(items)} answers of {version.name} to label" + (f" ({counted})" if counted else ""))
    for file in files[1:]:
        click.echo(f"{file}: how to set the tool up")
    if items:
        click.echo("label all of the random ones, also the hard ones, then: leeway labels import FILE")


@labels.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", envvar="LEEWAY_API_KEY", help="API key; better given as LEEWAY_API_KEY.")
@json_option
def import_labels(*, file: Path, key: str | None, as_json: bool) -> None:
    """Take in FILE: the queue with its column `label` filled in, or Label Studio's or Argilla's JSON export.

    Needs a key with the role feedback. A file that was taken in before changes nothing.
    """
    from monitoring.asking import take_in

    ledger = open_ledger(load_settings())
    found = take_in(ledger, file, author=person_with(ledger, key, Role.FEEDBACK), now=utc_now())
    ledger.close()
    if as_json:
        print_json(vars(found))
        return
    click.echo(f"{file}: {found.new} new labels, {found.known} known already, {found.unanswered} not answered")
    if found.random_unanswered:
        drawn = found.random_answered + found.random_unanswered
        click.echo(
            f"{found.random_unanswered} of the {drawn} random ones have no label: if the hard ones are left out, "
            "accuracy will look better than it is"
        )
    if found.unfamiliar:
        named = ", ".join(f"{label} ({count})" for label, count in sorted(found.unfamiliar.items()))
        click.echo(f"no model knows: {named}; kept as proposed classes")


def person_with(ledger: Ledger, key: str | None, role: Role) -> str:
    """Whose key it is. Raises NotAuthenticated, or NotAllowed without the role."""
    from monitoring.core.errors import NotAllowed, NotAuthenticated
    from monitoring.core.ledger import access

    if not key:
        raise NotAuthenticated("no API key: set LEEWAY_API_KEY or pass --key")
    with ledger.read() as connection:
        person = access.authenticate(connection, key.strip())
    if role not in person.roles:
        raise NotAllowed(f"the key {person.name!r} lacks the role {role}: ask for a key that has it")
    return person.name
