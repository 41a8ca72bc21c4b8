"""What is read from the log, from where on, and for how long it is kept."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from monitoring.core.prediction_log import SCHEMA, PredictionLog
from tests.integration.core.prediction_rows import NOON, identity, numbers_in, open_writer, row

DAY = timedelta(days=1)


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    """Three commits, the rows within each in no order of time: [2, 0, 1], [4, 3] of other versions, [5] of a model."""
    log = PredictionLog(str(tmp_path / "log"))
    spool = open_writer(tmp_path / "spool")
    for frame in (
        [row(2), row(0), row(1)],
        [row(4, version="v2"), row(3, version="it's")],
        [row(5, model="triage")],
    ):
        assert spool.append(frame)
        log.ship(tmp_path / "spool")
    spool.close()
    return log


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"after_commit": 1}, [3, 4, 5]),
        ({"until_commit": 1}, [0, 1, 2]),
        ({"after_commit": 1, "until_commit": 2}, [3, 4]),
        ({"after_commit": 3}, []),
        ({"model": "triage"}, [5]),
        ({"model": "support", "version": "v2"}, [4]),
        ({"version": "it's"}, [3]),
        ({"version": "' OR 'a' = 'a"}, []),
        ({"since": NOON + timedelta(seconds=3)}, [3, 4, 5]),
        ({"since": (NOON + timedelta(seconds=3)).astimezone(timezone(timedelta(hours=-11)))}, [3, 4, 5]),
        ({"since": NOON + timedelta(seconds=3, microseconds=1)}, [4, 5]),
        ({"since": NOON + DAY}, []),
        ({"within": (NOON + timedelta(seconds=2), NOON + timedelta(seconds=4))}, [2, 3]),
        ({"within": (NOON - DAY, NOON)}, []),
        ({"at_most": 6}, [0, 1, 2, 3, 4, 5]),
        ({"evidence_only": True}, [0, 1, 2, 3, 4, 5]),
        ({"prediction_ids": []}, []),
        ({"prediction_ids": [identity(n, NOON + timedelta(seconds=n)) for n in (4, 1, 1)]}, [1, 4]),
        ({"prediction_ids": [identity(n, NOON + timedelta(seconds=n)) for n in range(20)]}, [0, 1, 2, 3, 4, 5]),
        ({"prediction_ids": iter([identity(2, NOON + timedelta(seconds=2)), "'"]), "model": "support"}, [2]),
    ],
)
def test_rows_that_match_all_that_is_asked_in_order_of_time(
    log: PredictionLog, asked: dict[str, Any], numbers: list[int]
) -> None:
    assert numbers_in(log, **asked) == numbers


def test_a_row_comes_back_as_it_was_spooled(log: PredictionLog) -> None:
    [read] = log.read(model="triage").to_pylist()
    spooled = row(5, model="triage")
    assert {name: read[name] for name in spooled if name != "at_us"} == {
        n: v for n, v in spooled.items() if n != "at_us"
    }
    assert read["at"] == NOON + timedelta(seconds=5)
    assert read["day"] == date(2026, 1, 5)
    assert read["commit"] == 3
    assert log.last_commit() == 3


def test_evidence_is_what_the_champion_answered_and_what_counts(tmp_path: Path) -> None:
    log, spool = PredictionLog(str(tmp_path / "log")), open_writer(tmp_path / "spool")
    failed, shadowed = row(50) | {"error": "timeout"}, row(51) | {"variant": "shadow"}
    assert spool.append([*(row(number) | {"text": "buy now"} for number in range(20)), failed, shadowed])
    log.ship(tmp_path / "spool")
    spool.close()
    assert len(numbers_in(log)) == 22
    assert numbers_in(log, evidence_only=True) == list(range(5)), "five an hour of one client with one text"


def test_texts_are_in_the_data_alone_so_that_they_can_be_forgotten(log: PredictionLog, tmp_path: Path) -> None:
    """Delta's log keeps what it says of columns for weeks after the rows are gone."""
    [own_log] = tmp_path.rglob("_delta_log")
    kept = [path.read_bytes() for path in own_log.iterdir() if path.is_file()]
    assert any(b"minValues" in content for content in kept)
    assert not any(b"message " in content for content in kept)


def test_of_more_rows_than_asked_for_those_are_read_whose_ids_end_low(tmp_path: Path) -> None:
    log, spool = PredictionLog(str(tmp_path / "log")), open_writer(tmp_path / "spool")
    ends = range(0, 16**4, 64)
    assert spool.append([row(end) for end in ends])
    log.ship(tmp_path / "spool")
    spool.close()
    assert numbers_in(log, at_most=len(ends)) == list(ends)
    assert numbers_in(log, at_most=256) == list(ends)[:256]
    assert numbers_in(log, at_most=0) == []


def test_only_the_columns_asked_for_are_read(log: PredictionLog) -> None:
    assert log.read(columns=["text"]).column_names == ["text", "at"]
    assert log.read(columns=["text"], prediction_ids=["x"]).column_names == ["text", "at", "prediction_id"]
    assert log.read().schema == SCHEMA


def test_an_absent_log_is_an_empty_one(tmp_path: Path) -> None:
    log = PredictionLog(str(tmp_path / "absent"))
    assert log.read().num_rows == 0
    assert log.read(columns=["text"], model="support").column_names == ["text", "at"]
    assert log.last_commit() == 0
    log.maintain(retention_days=1, now=NOON)
    log.ship(tmp_path / "spool")
    assert not (tmp_path / "absent").exists()


def test_maintenance_keeps_every_row_of_the_days_that_are_kept(log: PredictionLog, tmp_path: Path) -> None:
    before = log.read()
    log.maintain(retention_days=90, now=NOON)
    assert log.read() == before
    assert len(DeltaTable(str(tmp_path / "log")).file_uris()) == 1
    assert log.last_commit() == 3


def test_days_beyond_retention_are_deleted_and_their_rows_never_come_back(tmp_path: Path) -> None:
    log = PredictionLog(str(tmp_path / "log"))
    spool = open_writer(tmp_path / "spool")
    midnight = datetime(2026, 1, 5, tzinfo=UTC)
    moments = [midnight - 3 * DAY, midnight - timedelta(microseconds=1), midnight, NOON]
    assert spool.append([row(number, at=at) for number, at in enumerate(moments)])
    log.ship(tmp_path / "spool")
    log.maintain(retention_days=1, now=NOON + DAY)
    assert numbers_in(log) == [2, 3]
    assert log.ship(tmp_path / "spool").rows == 0
    assert spool.append([row(4, at=NOON)])
    log.ship(tmp_path / "spool")
    assert (numbers_in(log, after_commit=1), log.last_commit()) == ([4], 2)
    spool.close()
