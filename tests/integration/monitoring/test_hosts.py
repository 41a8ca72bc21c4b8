"""Several hosts on one ledger: each ships its own spool, and none hides another's lag."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitoring.core.ledger import ticks
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.spool import SpoolWriter
from monitoring.shipping import Place, forget_silent, leave, ship, shipments
from tests.conftest import FrozenClock
from tests.integration.core.prediction_rows import append, numbers_in, open_writer
from tests.integration.monitoring.patience import PATIENCE, wait_until

CHILD = Path(__file__).parent / "monitor_child.py"
ROOT = Path(__file__).parents[3]


@dataclass
class Host:
    """A machine of its own, so to speak: a home folder, a serving process's spool, and a monitor."""

    name: str
    home: Path
    writer: SpoolWriter
    monitor: subprocess.Popen[bytes]

    def lags(self) -> dict[str, float]:
        """What its monitor says of each host's lag; nothing while it does not answer yet."""
        port = self.home / "port"
        if not port.exists():
            return {}
        text = httpx.get(f"http://127.0.0.1:{port.read_text()}/metrics", timeout=10).text
        [family] = [
            one for one in text_string_to_metric_families(text) if one.name == "leeway_prediction_log_lag_seconds"
        ]
        return {sample.labels["host"]: sample.value for sample in family.samples}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    opened.upgrade()
    yield opened
    opened.close()


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    return PredictionLog(str(tmp_path / "storage" / "predictions"))


@pytest.fixture
def hosts(ledger: Ledger, home: Path, tmp_path: Path) -> Iterator[list[Host]]:
    """Two, that share a ledger and a store."""
    started = [_start(name, tmp_path) for name in ("a", "b")]
    yield started
    for host in started:
        host.writer.close()
        host.monitor.kill()
        host.monitor.wait(PATIENCE)


def _start(name: str, folder: Path) -> Host:
    home = folder / name
    return Host(name, home, open_writer(home / "spool", f"server-{name}"), _monitor(name, home))


def _monitor(name: str, home: Path) -> subprocess.Popen[bytes]:
    """Where it listens, stands in a file."""
    (home / "port").unlink(missing_ok=True)
    folder = home.parent
    shared = {
        "LEEWAY_HOME": str(home),
        "LEEWAY_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
        "LEEWAY_STORAGE_URL": str(folder / "storage"),
        "LEEWAY_MONITOR__PORT": "0",
        "LEEWAY_LOG__SHIP_SECONDS": "0.2",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen([sys.executable, str(CHILD), name, str(home / "port")], env=os.environ | shared)


def test_each_monitor_ships_its_own_host_and_tells_of_the_other_that_lags(
    hosts: list[Host], ledger: Ledger, log: PredictionLog
) -> None:
    one, other = hosts
    append(one.writer, range(3))
    append(other.writer, range(100, 103))
    wait_until(lambda: numbers_in(log) == [0, 1, 2, 100, 101, 102])
    wait_until(lambda: one.lags().keys() == {"a", "b"} == other.lags().keys())
    other.monitor.kill()  # its serving process goes on, and its spool is nobody else's to ship
    other.monitor.wait(PATIENCE)
    append(one.writer, range(3, 6))
    append(other.writer, range(103, 106))
    wait_until(lambda: numbers_in(log) == [0, 1, 2, 3, 4, 5, 100, 101, 102])
    wait_until(lambda: one.lags()["b"] > 3)
    assert one.lags()["a"] < one.lags()["b"]
    other.monitor = _monitor("b, made anew", other.home)
    wait_until(lambda: 103 in numbers_in(log))
    wait_until(lambda: one.lags().keys() == {"a", "b, made anew"})
    one.writer.close()  # its serving process has ended, and so does its monitor: nothing can lag there
    one.monitor.terminate()
    assert one.monitor.wait(PATIENCE) == 0
    wait_until(lambda: other.lags().keys() == {"b, made anew"})


def test_a_folder_keeps_its_name_whoever_comes_first_and_whatever_its_host_is_called(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as monitors:
        names = {place.id for place in monitors.map(lambda host: Place.at(tmp_path / "spool", host=host), "abcdefgh")}
    assert len(names) == 1
    assert Place.at(tmp_path / "other", host="a").id not in names


def test_a_host_is_forgotten_when_it_ends_empty_or_is_silent_for_long(
    ledger: Ledger, log: PredictionLog, tmp_path: Path, clock: FrozenClock
) -> None:
    places = [Place.at(tmp_path / name, host=name) for name in ("ends", "serves on", "is gone")]
    writers = [open_writer(place.folder, place.host) for place in places]
    for place, writer in zip(places, writers, strict=True):
        append(writer, range(2))
        ship(log, place, ledger, clock)
    with ledger.begin() as connection:
        ticks.insert(connection, places[2].trigger, clock.now)
        assert {shipped.rows for shipped in shipments(connection).values()} == {2}
    writers[0].close()
    for place in places[:2]:
        log.ship(place.folder)  # what is left of a writer that has ended goes with its last segment
        leave(place, ledger)
    with ledger.read() as connection:
        assert {shipped.host for shipped in shipments(connection).values()} == {"serves on", "is gone"}
    clock.advance(timedelta(days=1))
    ship(log, places[1], ledger, clock)
    with ledger.begin() as connection:
        forget_silent(connection, before=clock.now - timedelta(hours=1))
        assert {shipped.host for shipped in shipments(connection).values()} == {"serves on"}
        assert not ticks.waits(connection, now=clock.now)
    for writer in writers[1:]:
        writer.close()
