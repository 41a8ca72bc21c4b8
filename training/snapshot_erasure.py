"""One person's rows out of the training snapshots, and out of the copies of them on this host.

A snapshot keeps its name, which lineages refer to, and says in its manifest how many rows were erased: it is then not
quite what its model learnt from. A crash leaves the old snapshot or the new one, and the next erasure tidies up.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from monitoring.core.storage import Storage
from training.snapshot import DATA, FOLDER, MANIFEST, SCHEMA, SPLITS


@dataclass(frozen=True)
class Theirs:
    """Whose rows: the client's with the hashed key `unit`, and those of these predictions."""

    unit: str | None
    prediction_ids: Collection[str]

    def among(self, rows: pa.Table) -> pa.ChunkedArray:
        """Which rows (n,) of a snapshot they are."""
        found = pc.is_in(rows["prediction_id"], pa.array(sorted(self.prediction_ids), pa.string()))
        return found if self.unit is None else pc.or_(found, pc.equal(rows["unit"], self.unit))


def predictions_of(storage: Storage, unit: str) -> set[str]:
    """Ids of the client's predictions that snapshots hold."""
    found: set[str] = set()
    for name in _snapshots(storage):
        rows = _read(storage, name, _manifest(storage, name))
        found |= set(rows.filter(pc.equal(rows["unit"], unit))["prediction_id"].to_pylist())
    return found - {None, ""}


def erase_rows(storage: Storage, theirs: Theirs, *, cache: Path) -> dict[str, int]:
    """Take the rows out of every snapshot; how many, by the name of those that had any."""
    erased = {}
    for name in _snapshots(storage):
        manifest = _manifest(storage, name)
        rows = _read(storage, name, manifest)
        mine = theirs.among(rows)
        if (count := pc.sum(mine).as_py() or 0) > 0:
            manifest = _write(storage, name, manifest, rows.filter(pc.invert(mine)), count)
            erased[name] = int(count)
        for stray in storage.names(name) if "erased" in manifest else ():
            if stray not in (MANIFEST, manifest["data"]):
                storage.remove(f"{name}/{stray}")
        copy = cache / name
        if copy.exists() and (copy / MANIFEST).read_bytes() != storage.get_bytes(f"{name}/{MANIFEST}"):
            shutil.rmtree(copy)
    return erased


def _snapshots(storage: Storage) -> list[str]:
    return [f"{FOLDER}/{name}" for name in storage.names(FOLDER) if storage.exists(f"{FOLDER}/{name}/{MANIFEST}")]


def _manifest(storage: Storage, name: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(storage.get_bytes(f"{name}/{MANIFEST}"))
    return manifest


def _read(storage: Storage, name: str, manifest: dict[str, Any]) -> pa.Table:
    content = storage.get_bytes(f"{name}/{manifest.get('data', DATA)}")
    return pa.parquet.read_table(io.BytesIO(content), schema=SCHEMA)


def _write(storage: Storage, name: str, manifest: dict[str, Any], rows: pa.Table, erased: int) -> dict[str, Any]:
    """The data under a name of its own first, so that the manifest never speaks of what is not there."""
    content = io.BytesIO()
    pa.parquet.write_table(rows, content)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    counts = Counter(rows["split"].to_pylist())
    changed = {
        **manifest,
        "data": f"data-{digest[:12]}.parquet",
        "data_sha256": digest,
        "splits": {split: counts[split] for split in SPLITS},
        "erased": manifest.get("erased", 0) + erased,
    }
    storage.put_bytes(f"{name}/{changed['data']}", content.getvalue())
    storage.put_bytes(f"{name}/{MANIFEST}", json.dumps(changed, indent=2, sort_keys=True).encode())
    return changed
