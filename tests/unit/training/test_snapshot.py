from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from monitoring.core.errors import InvalidInput, NotFound
from monitoring.core.storage import Storage
from training.data import HOLDOUT, TRAIN, VALIDATION, LabelledData
from training.snapshot import Row, Snapshot, first_snapshot, load, store

AS_OF = datetime(2026, 1, 5, 12, tzinfo=UTC)
DATA = LabelledData(("card gone", "no login", "card late", "locked out"), ("card", "login", "card", "login"))
FIRST = first_snapshot(DATA, (TRAIN, TRAIN, VALIDATION, HOLDOUT), as_of=AS_OF)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "storage"))


def test_a_snapshot_comes_back_as_it_was_stored(storage: Storage, tmp_path: Path) -> None:
    snapshot = Snapshot(
        rows=(
            *FIRST.rows,
            Row("wo ist mein Paket ✓", None, "recent_unlabelled", unit="ab12", source="log", prediction_id="p1"),
        ),
        classes=("card", "login"),
        as_of=AS_OF,
        parent="snapshots/before",
        classes_waiting={"crypto": 3},
        new_labels=17,
    )
    stored = store(storage, snapshot)
    assert load(storage, stored.name, cache=tmp_path / "cache") == snapshot


def test_a_snapshot_of_before_ids_were_kept_still_loads(storage: Storage, tmp_path: Path) -> None:
    stored = store(storage, FIRST)
    folder = tmp_path / "storage" / stored.name
    data = folder / "data.parquet"
    pa.parquet.write_table(pa.parquet.read_table(data).drop_columns("prediction_id"), data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["data_sha256"] = hashlib.sha256(data.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert load(storage, stored.name, cache=tmp_path / "cache").rows == FIRST.rows


def test_the_same_content_has_one_name(storage: Storage) -> None:
    assert store(storage, FIRST) == store(storage, FIRST)
    later = first_snapshot(DATA, (TRAIN, TRAIN, VALIDATION, HOLDOUT), as_of=AS_OF.replace(hour=13))
    assert store(storage, later).data_hash == store(storage, FIRST).data_hash
    assert store(storage, later).name != store(storage, FIRST).name


def test_altered_data_is_refused(storage: Storage, tmp_path: Path) -> None:
    name = store(storage, FIRST).name
    with (tmp_path / "storage" / name / "data.parquet").open("ab") as file:
        file.write(b"!")
    with pytest.raises(InvalidInput, match="does not match its manifest"):
        load(storage, name, cache=tmp_path / "cache")


def test_an_absent_snapshot_is_named(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="snapshots/none"):
        load(storage, "snapshots/none", cache=tmp_path / "cache")


def test_parts_are_read_by_split() -> None:
    part = FIRST.part(TRAIN, HOLDOUT)
    assert part.texts == ("card gone", "no login", "locked out")
    assert part.within(HOLDOUT).tolist() == [False, False, True]
    assert FIRST.counts()[TRAIN] == 2
