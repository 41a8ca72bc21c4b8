"""A tick counts once: through crashes, rivals, and however the stream is cut into ticks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, select

from monitoring.core import tables
from monitoring.core.errors import Conflict
from monitoring.core.ledger import verdicts
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import DriftReport
from tests.bundles import LABELS
from tests.integration.monitoring.test_monitor import NEW_TOPIC
from tests.integration.monitoring.world import MODEL, World

MADE_UP = {"id", "hash", "previous_hash"}  # random in every run


class Crash(Exception):
    """The process dies."""


class DyingLedger(Ledger):
    """Dies at the end of a write transaction, before its commit."""

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with super().begin() as connection:
            yield connection
            raise Crash


class OvertakenLedger(Ledger):
    """Lets somebody else go first when it is about to write."""

    overtake: Callable[[], object]

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        self.overtake()
        with super().begin() as connection:
            yield connection


def test_a_tick_that_dies_before_its_commit_is_done_again_with_the_same_result(world: World) -> None:
    world.serve(world.champion(), 250)
    world.watch()
    world.label(world.serve(world.champion(), 350, topics=NEW_TOPIC)[:120])
    before = dump(world.ledger)
    with closing(copy_of(world)) as undisturbed, closing(DyingLedger.open(world.settings.ledger_url)) as dying:
        with pytest.raises(Crash):
            world.watch(dying)
        assert dump(world.ledger) == before
        world.watch()
        world.watch(undisturbed)
        assert dump(world.ledger) == dump(undisturbed)
    assert {alert.name for alert in world.alerts()} >= {"drift", "quality"}
    assert len(world.jobs()) == 1


def test_of_two_workers_on_one_tick_only_one_counts(world: World) -> None:
    world.serve(world.champion(), 300, topics=NEW_TOPIC)
    with closing(OvertakenLedger.open(world.settings.ledger_url)) as overtaken:
        assert isinstance(overtaken, OvertakenLedger)
        overtaken.overtake = world.watch
        with pytest.raises(Conflict, match="another process"):
            world.watch(overtaken)
    assert world.gauges()["seen"] == 300
    assert len(reports(world.ledger)) == 1
    assert [alert.name for alert in world.alerts()] == ["drift"]


def test_how_the_stream_is_cut_into_ticks_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for topics in (LABELS, NEW_TOPIC):
        for _ in range(3):
            world.label(world.serve(world.champion(), 90, topics=topics)[:30])
    with closing(copy_of(world)) as whole:
        assert len(world.watch(whole)) == 1
        monkeypatch.setattr("monitoring.monitor.MAX_ROWS", 1)
        assert len(world.watch()) == 6
        often, once = reports(world.ledger), reports(whole)
        assert len(often) == len(once) == 2
        for name in ("window_start", "window_end", "n", "findings", "moved"):
            assert [getattr(report, name) for report in often] == [getattr(report, name) for report in once]
        assert alarm(world.ledger) == alarm(whole)
        assert rows(whole, "outcomes") == rows(world.ledger, "outcomes")
        assert rows(whole, "detector_states") == rows(world.ledger, "detector_states")


def copy_of(world: World) -> Ledger:
    """The same ledger at this moment, in a file of its own; the log stays shared."""
    target = world.home / "copy.db"
    with closing(sqlite3.connect(world.home / "ledger.db")) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return Ledger.open(f"sqlite:///{target}")


def dump(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """All that the ledger holds, save what is made up at random, in an order that does not depend on it."""
    return {table: rows(ledger, table) for table in tables.metadata.tables}


def rows(ledger: Ledger, table: str) -> list[dict[str, Any]]:
    """One table's rows."""
    with ledger.read() as connection:
        found = connection.execute(select(tables.metadata.tables[table])).mappings().all()
        called = {row["id"]: row["name"] for row in connection.execute(select(tables.alerts)).mappings()}
        called |= {row["id"]: row["cause"] for row in connection.execute(select(tables.jobs)).mappings()}
    return sorted((plain(row, called) for row in found), key=repr)


def plain(row: Any, called: dict[str, str]) -> dict[str, Any]:
    """A row without its random parts; alerts and jobs are called by their names."""
    kept = {name: value for name, value in row.items() if name not in MADE_UP | {"updated_at", "sequence"}}
    text = repr(kept)
    for identity, name in called.items():
        text = text.replace(identity, name)
    return {"row": text}


def reports(ledger: Ledger) -> list[DriftReport]:
    """All of them, oldest first."""
    with ledger.read() as connection:
        return [report for _, report in reversed(verdicts.reports(connection, MODEL))]


def alarm(ledger: Ledger) -> tuple[int, str]:
    """When the drift was seen and when it is thought to have begun."""
    with ledger.read() as connection:
        query = select(tables.alerts.c.detail).where(tables.alerts.c.name == "drift")
        detail = connection.execute(query).scalar_one()
    return detail["n_seen"], detail["onset_at"]
