from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from monitoring.core.ledger import ticks
from monitoring.core.ledger.database import Ledger
from monitoring.core.tables import ticks as ticks_table
from monitoring.core.types import utc_now
from monitoring.scheduler import Routine, Scheduler
from tests.integration.monitoring.patience import PATIENCE, wait_until

CHILD = Path(__file__).parent / "scheduler_child.py"
ROOT = Path(__file__).parents[3]


class Fleet:
    """Schedulers in processes of their own, on one SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'ledger.db'}"
        self._journal = folder / "journal"
        self._journal.touch()
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *, hangs: bool = False) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(CHILD), self.url, str(self._journal), name, *(["hang"] if hangs else [])]
        child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
        self._children.append(child)
        return child

    def lines(self, what: str) -> list[str]:
        return [line for line in self._journal.read_text().splitlines() if line.startswith(what)]

    def end(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    with_tables = Ledger.open(fleet.url)
    with_tables.upgrade()
    with_tables.close()
    yield fleet
    fleet.end()


def test_three_schedulers_give_one_run_and_a_killed_one_is_replaced(fleet: Fleet) -> None:
    victim = fleet.start("victim", hangs=True)
    wait_until(lambda: fleet.lines("begun") == ["begun victim"])
    fleet.start("heir")
    fleet.start("spare")
    wait_until(lambda: len(fleet.lines("ready")) == 3)
    assert fleet.lines("begun") == ["begun victim"]  # its lease is renewed while it lives
    victim.kill()
    wait_until(lambda: len(fleet.lines("done")) == 1)
    assert len(fleet.lines("begun")) == 2
    ledger = Ledger.open(fleet.url)
    wait_until(lambda: _finished(ledger) == [("probe", None)])
    ledger.close()


def test_a_failing_routine_is_told_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.upgrade()
    done = threading.Event()

    def fail(_: str) -> None:
        raise RuntimeError("no such table")

    routines = [
        Routine("fails", timedelta(days=36_500), fail),
        Routine("works", timedelta(days=36_500), lambda subject: done.set(), lambda: ["support"]),
    ]
    observed: dict[str, bool] = {}

    def observe(routine: str, seconds: float, *, failed: bool) -> None:
        assert seconds >= 0
        observed[routine] = failed

    scheduler = Scheduler(routines, ledger=ledger, clock=utc_now, owner="test", workers=1, observe=observe)
    with ledger.begin() as connection:
        ticks.insert(connection, "gone", utc_now())
    scheduler.start()
    assert done.wait(PATIENCE)
    wait_until(lambda: len(_finished(ledger)) == 3)
    scheduler.stop()
    assert dict(_finished(ledger)) == {
        "fails": "RuntimeError: no such table",
        "gone": "this monitor has no routine 'gone'",
        "works:support": None,
    }
    assert observed == {"fails": True, "works": False}
    ledger.close()
    assert any(record.exc_info for record in caplog.records if "fails" in record.message)


def _finished(ledger: Ledger) -> list[tuple[str, str | None]]:
    query = select(ticks_table.c.trigger, ticks_table.c.error).where(ticks_table.c.finished_at.is_not(None))
    with ledger.read() as connection:
        return [(row.trigger, row.error) for row in connection.execute(query)]
