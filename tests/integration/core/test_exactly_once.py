"""Every answered row is in the table once: whoever dies, however many ship, whatever else changes the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from deltalake import DeltaTable

from monitoring.core import spool
from monitoring.core.prediction_log import PredictionLog, Shipment
from tests.contract.race import race
from tests.integration.core.prediction_rows import NOON, append, numbers_in, open_writer
from tests.integration.core.processes import child, read_line


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the writers' folders are."""
    return tmp_path / "spool"


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    """An absent table."""
    return PredictionLog(str(tmp_path / "log"))


class Overtaken(PredictionLog):
    """A shipper that others overtake between its reading and its commit, as often as they have something to do."""

    def __init__(self, url: str, others: Sequence[Callable[[], object]]) -> None:
        super().__init__(url)
        self._others = list(others)

    def _commit(self, table: DeltaTable, frames: Sequence[spool.Frame]) -> Shipment:
        if self._others:
            self._others.pop(0)()
        return super()._commit(table, frames)


def test_shipping_again_ships_nothing_twice(root: Path, log: PredictionLog) -> None:
    writer = open_writer(root)
    assert log.ship(root) == Shipment(0, 0, 0)
    append(writer, range(10))
    assert log.ship(root) == Shipment(rows=10, frames=10, torn=0)
    assert log.ship(root) == Shipment(0, 0, 0)
    append(writer, range(10, 15))
    assert log.ship(root).rows == 5
    writer.close()
    log.ship(root)
    assert numbers_in(log) == list(range(15))
    assert spool.writers(root) == []


def test_several_writers_are_shipped_together(root: Path, log: PredictionLog) -> None:
    writers = [open_writer(root, f"server-{number}") for number in range(3)]
    for number in range(30):
        append(writers[number % 3], [number])
    log.ship(root)
    for number in range(30, 60):
        append(writers[number % 3], [number])
    log.ship(root)
    for writer in writers:
        writer.close()
    assert numbers_in(log) == list(range(60))


@pytest.mark.parametrize("lost", ["the commit", "the deletion"])
def test_a_crash_around_the_commit_neither_loses_nor_doubles(
    root: Path, log: PredictionLog, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    writer = open_writer(root)
    append(writer, range(20))
    place = {"the commit": "write_deltalake", "the deletion": "spool.discard_shipped"}[lost]
    with monkeypatch.context() as patch:
        patch.setattr(f"monitoring.core.prediction_log.{place}", die)
        with pytest.raises(KeyboardInterrupt):
            log.ship(root)
    append(writer, range(20, 25))
    writer.close()
    assert log.ship(root).rows == (25 if lost == "the commit" else 5)
    assert numbers_in(log) == list(range(25))
    assert spool.writers(root) == []


def test_who_is_overtaken_by_another_shipper_ships_only_what_is_left(
    root: Path, log: PredictionLog, tmp_path: Path
) -> None:
    writer = open_writer(root)
    append(writer, range(10))

    def ship_and_answer(*numbers: int) -> None:
        log.ship(root)
        append(writer, numbers)

    others = [partial(ship_and_answer, 10, 11), partial(ship_and_answer, 12)]
    assert Overtaken(str(tmp_path / "log"), others).ship(root).rows == 1
    writer.close()
    assert numbers_in(log) == list(range(13))


def test_a_compaction_in_between_delays_nothing(root: Path, log: PredictionLog, tmp_path: Path) -> None:
    writer = open_writer(root)
    for number in range(5):
        append(writer, [number])
        log.ship(root)
    append(writer, [5])
    overtaken = Overtaken(str(tmp_path / "log"), [lambda: log.maintain(retention_days=90, now=NOON)])
    assert overtaken.ship(root).rows == 1
    writer.close()
    assert numbers_in(log) == list(range(6))


def test_two_shippers_and_a_compaction_at_once(root: Path, log: PredictionLog, tmp_path: Path) -> None:
    writers = [open_writer(root, f"server-{number}") for number in range(2)]

    def answer() -> None:
        for number in range(200):
            append(writers[number % 2], [number])
        for writer in writers:
            writer.close()

    answering = Thread(target=answer)

    def act(number: int) -> None:
        own = PredictionLog(str(tmp_path / "log"))
        while answering.is_alive():
            if number < 2:
                own.ship(root)
            else:
                own.maintain(retention_days=90, now=NOON)

    answering.start()
    assert race(act, 3) == [None] * 3
    answering.join()
    log.ship(root)
    assert numbers_in(log) == list(range(200))
    assert spool.writers(root) == []


def test_what_a_killed_server_had_answered_is_in_the_log(
    root: Path, log: PredictionLog, rng: np.random.Generator
) -> None:
    with child("writer_child", str(root)) as process:
        enough = int(rng.integers(100, 200))
        while (answered := int(read_line(process))) < enough:
            if answered % 40 == 0:
                log.ship(root)
        process.kill()
        process.wait()
        assert process.stdout is not None
        answered += len(process.stdout.read().splitlines())
    log.ship(root)
    shipped = numbers_in(log)
    assert shipped == list(range(len(shipped)))
    assert answered + 1 <= len(shipped) <= answered + 2, "at most one row was written and its answer not yet sent"
    assert spool.writers(root) == []


def test_a_shipper_killed_at_any_moment_is_replaced_by_the_next(
    root: Path, log: PredictionLog, tmp_path: Path, rng: np.random.Generator
) -> None:
    writer = open_writer(root)
    number = 0
    for _ in range(3):
        with child("shipper_child", str(root), str(tmp_path / "log")) as process:
            read_line(process)
            commits = log.last_commit() + int(rng.integers(1, 4))
            while log.last_commit() < commits:
                append(writer, [number])
                number += 1
            process.kill()
            process.wait()
    writer.close()
    log.ship(root)
    assert numbers_in(log) == list(range(number))
    assert spool.writers(root) == []


def test_what_was_shipped_is_known_beyond_a_checkpoint_of_the_table(
    root: Path, log: PredictionLog, tmp_path: Path
) -> None:
    writer = open_writer(root)
    append(writer, range(10))
    log.ship(root)
    log.maintain(retention_days=90, now=NOON)
    DeltaTable(str(tmp_path / "log")).create_checkpoint()
    *older, _ = sorted((tmp_path / "log" / "_delta_log").glob("*.json"))
    assert older
    for commit in older:
        commit.unlink()
    append(writer, range(10, 12))
    assert log.ship(root).rows == 2
    assert numbers_in(log) == list(range(12))
    writer.close()
