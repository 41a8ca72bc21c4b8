"""Training data, materialised: what a model learnt from and was tested on can be read again years later.

A snapshot is a storage folder `snapshots/<hash>` with data.parquet (text, label, split, weight, unit, source,
prediction_id) and manifest.json; the hash is the manifest's, which holds the data's. Where a person's rows were erased
(`snapshot_erasure`), the manifest names other data, and says how many rows it lacks. Splits:

    train, validation    what the model learns from and is tuned on
    holdout              never trained on, in this generation or any later one
    recent_holdout       the same, of the traffic since the last training; outcome-blind labels, weight 1/p
    recent_unlabelled    recent traffic for the drift baseline; no label
    waiting              labels of classes with too few examples yet: kept until a later generation has enough
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from monitoring.core.errors import InvalidInput
from monitoring.core.storage import Storage
from training.data import HOLDOUT, TRAIN, VALIDATION, LabelledData

RECENT_HOLDOUT, RECENT_UNLABELLED, WAITING = "recent_holdout", "recent_unlabelled", "waiting"
SPLITS = (TRAIN, VALIDATION, HOLDOUT, RECENT_HOLDOUT, RECENT_UNLABELLED, WAITING)
FORMAT = 1
FOLDER, DATA, MANIFEST = "snapshots", "data.parquet", "manifest.json"

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("weight", pa.float64()),
        ("unit", pa.string()),
        ("source", pa.string()),
        ("prediction_id", pa.string()),
    ]
)


@dataclass(frozen=True)
class Row:
    """One text. `source`: `file`, a LabelSource, or `log` where there is no label. `unit`: hashed key, or empty.

    `prediction_id`: of traffic; empty for a file's rows, and in snapshots of before ids were kept.
    """

    text: str
    label: str | None
    split: str
    weight: float = 1.0
    unit: str = ""
    source: str = "file"
    prediction_id: str = ""


@dataclass(frozen=True)
class Part:
    """Some rows, as columns of n entries. A label is None where nobody gave one."""

    texts: tuple[str, ...]
    labels: tuple[str | None, ...]
    splits: tuple[str, ...]
    weights: NDArray[np.float64]
    units: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def within(self, *splits: str) -> NDArray[np.bool_]:
        """Which rows (n,) belong to one of these splits."""
        return np.isin(np.array(self.splits, dtype=np.str_), splits)

    def take(self, rows: NDArray[np.int64]) -> Part:
        """The rows of these numbers, in that order."""
        return Part(
            tuple(self.texts[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            tuple(self.splits[row] for row in rows),
            self.weights[rows],
            tuple(self.units[row] for row in rows),
        )


@dataclass(frozen=True)
class Snapshot:
    """Rows and classes as of a moment. `classes` keep their parent's order, new ones last.

    `classes_waiting` counts the examples of labels that have too few to be added; `new_labels` those since `parent`;
    `erased` the rows that were taken out of it since.
    """

    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    as_of: datetime
    parent: str | None = None
    classes_added: tuple[str, ...] = ()
    classes_waiting: Mapping[str, int] | None = None
    new_labels: int = 0
    erased: int = 0

    def part(self, *splits: str) -> Part:
        """The rows of these splits, in the snapshot's order; within each split the weights average one."""
        rows = [row for row in self.rows if row.split in splits]
        weights = np.array([row.weight for row in rows], dtype=np.float64)
        part = Part(
            tuple(row.text for row in rows),
            tuple(row.label for row in rows),
            tuple(row.split for row in rows),
            weights,
            tuple(row.unit for row in rows),
        )
        for name in splits:
            mine = part.within(name)
            weights[mine] /= weights[mine].mean() if mine.any() else 1.0
        return part

    def counts(self) -> dict[str, int]:
        """Rows of each split."""
        found = Counter(row.split for row in self.rows)
        return {name: found[name] for name in SPLITS}


@dataclass(frozen=True)
class StoredSnapshot:
    """Where a snapshot lies (`name` in the storage), and the SHA-256 of its data."""

    name: str
    data_hash: str


def first_snapshot(data: LabelledData, splits: Sequence[str], *, as_of: datetime) -> Snapshot:
    """A snapshot of a labelled file; `splits` names train, validation or holdout for each row."""
    rows = zip(data.texts, data.labels, splits, strict=True)
    return Snapshot(tuple(Row(*row) for row in rows), tuple(sorted(set(data.labels))), as_of)


def store(storage: Storage, snapshot: Snapshot) -> StoredSnapshot:
    """Write a snapshot under its hash; the same content is written once."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pa.parquet.write_table(pa.Table.from_pylist([asdict(row) for row in snapshot.rows], SCHEMA), folder / DATA)
        data_hash = _sha256(folder / DATA)
        (folder / MANIFEST).write_text(json.dumps(_manifest(snapshot, data_hash), indent=2, sort_keys=True))
        name = storage.put_folder(folder, f"{FOLDER}/{_sha256(folder / MANIFEST)[:20]}")
    return StoredSnapshot(name, data_hash)


def load(storage: Storage, name: str, *, cache: Path) -> Snapshot:
    """Read a snapshot back, verified. Raises NotFound, or InvalidInput where it was altered."""
    folder = cache / name
    if not folder.exists():
        storage.fetch_folder(name, folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        data, erased = folder / manifest.get("data", DATA), manifest.get("erased", 0)
        if manifest["format"] != FORMAT or manifest["data_sha256"] != _sha256(data):
            raise ValueError("its data does not match its manifest")
        rows = pa.parquet.read_table(data, schema=SCHEMA).to_pylist()
        if erased:
            log.warning("%s: %d of its rows were erased since it was learnt from", name, erased)
        return Snapshot(
            rows=tuple(Row(**(row | {"prediction_id": row["prediction_id"] or ""})) for row in rows),
            classes=tuple(manifest["classes"]),
            as_of=datetime.fromisoformat(manifest["as_of"]),
            parent=manifest["parent"],
            classes_added=tuple(manifest["classes_added"]),
            classes_waiting=manifest["classes_waiting"],
            new_labels=manifest["new_labels"],
            erased=erased,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"snapshot {name} cannot be used: {error}", field="snapshot") from error


def _manifest(snapshot: Snapshot, data_hash: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "data_sha256": data_hash,
        "splits": snapshot.counts(),
        "classes": list(snapshot.classes),
        "as_of": snapshot.as_of.isoformat(),
        "parent": snapshot.parent,
        "classes_added": list(snapshot.classes_added),
        "classes_waiting": dict(snapshot.classes_waiting or {}),
        "new_labels": snapshot.new_labels,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
