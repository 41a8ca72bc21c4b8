"""The prediction log: one Delta table, fed from the spools exactly once, open to DuckDB, Polars, Spark and others.

Each row says whether it counts as evidence (`admission`). Every commit carries its own number as the row column
`commit` and as a Delta application transaction, beside one transaction per spool writer (its last shipped frame). So
frames are never shipped twice, two shippers cannot commit the same number, and readers go on from the last commit they
read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from monitoring.core import spool
from monitoring.core.admission import Admission
from monitoring.core.prediction_record import PredictionRecord as PredictionRecord
from monitoring.core.types import Variant

SHIPPER = "leeway-shipper"
MAX_FRAMES = 5_000
COMMIT_ATTEMPTS = 20
MAX_ID_RANGES = 8

SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("model", pa.string()),
        ("version", pa.string()),
        ("variant", pa.string()),
        ("rollout", pa.string()),
        ("step", pa.int32()),
        ("share", pa.float64()),
        ("unit", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("text", pa.string()),
        ("predicted", pa.string()),
        ("confidence", pa.float64()),
        ("entropy", pa.float64()),
        ("margin", pa.float64()),
        ("similarity", pa.float64()),
        ("rarity", pa.float64()),
        ("length", pa.float64()),
        ("projected", pa.list_(pa.float32())),
        ("top_k", pa.string()),
        ("latency_ms", pa.float64()),
        ("error", pa.string()),
        ("metadata", pa.string()),
        ("counted", pa.bool_()),
        ("commit", pa.int64()),
        ("day", pa.date32()),
    ]
)


# Delta's own log keeps the least and greatest values of a column for as long as it lives: of what queries skip by, and
# never of texts, which are to be forgotten
_STATISTICS = "prediction_id,model,version,variant,at,error,counted,commit"


@dataclass(frozen=True)
class Shipment:
    """What one call of `ship` moved."""

    rows: int
    frames: int
    torn: int


_EVIDENCE = ("counted", "error IS NULL", f"variant = '{Variant.PRODUCTION}'")


class PredictionLog:
    """Ships spooled rows into the table and reads them back."""

    def __init__(
        self, url: str, storage_options: Mapping[str, str] | None = None, admission: Admission | None = None
    ) -> None:
        """`admission` says which of the rows that this shipper ships count as evidence."""
        self._url = url
        self._admission = admission or Admission()
        self._options = dict(storage_options or {})

    def ship(self, root: Path) -> Shipment:
        """Commit what waits in the spools under `root`; deletes segments only after their rows are in the table."""
        if self._table() is None and spool.writers(root):
            self._create_table()
        rows = frames = torn = 0
        while True:
            moved = self._ship_once(root)
            rows, frames = rows + moved.rows, frames + moved.frames
            if moved.frames < MAX_FRAMES:
                break
        table = self._table()
        for folder in spool.writers(root):
            torn += spool.discard_shipped(folder, shipped=_transaction(table, folder.name))
        return Shipment(rows, frames, torn)

    def read(
        self,
        *,
        after_commit: int = 0,
        until_commit: int | None = None,
        model: str | None = None,
        version: str | None = None,
        since: datetime | None = None,
        within: tuple[datetime, datetime] | None = None,
        evidence_only: bool = False,
        at_most: int | None = None,
        prediction_ids: Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Rows in order of time, those that match all that is given. An absent table is an empty one.

        `within`: a span of time, its end excluded. `evidence_only`: champions' answers that count. `at_most`: of more
        rows about as many are taken, by the random end of their ids, so always the same.

        By Delta's own engine, which skips files by their statistics: tens of milliseconds where a dataset over the same
        hundreds of small files takes seconds.
        """
        table = self._table()
        needed = ["at"] if prediction_ids is None else ["at", "prediction_id"]
        wanted = SCHEMA.names if columns is None else list(dict.fromkeys([*columns, *needed]))
        schema = pa.schema([SCHEMA.field(name) for name in wanted])
        equal = {"model": model, "version": version}
        conditions = [f"commit > {after_commit:d}"]
        conditions += [f"{column} = {_quoted(value)}" for column, value in equal.items() if value is not None]
        conditions += [] if until_commit is None else [f"commit <= {until_commit:d}"]
        conditions += [] if since is None else [_from(since)]
        conditions += [] if within is None else [_from(within[0]), _before(within[1])]
        conditions += _EVIDENCE if evidence_only else []
        wanted_ids = None if prediction_ids is None else sorted(set(prediction_ids))
        if wanted_ids is not None:
            conditions.append(f"({_near(wanted_ids)})")
        if table is None or wanted_ids == []:
            return schema.empty_table()
        if at_most is not None:
            conditions += _thinned(table, conditions, at_most)
        rows = _select(table, ", ".join(wanted), conditions).cast(schema)
        if wanted_ids is not None:
            rows = rows.filter(pc.is_in(rows["prediction_id"], pa.array(wanted_ids)))
        return rows.sort_by([("at", "ascending")])

    def last_commit(self) -> int:
        """The number of the newest commit; 0 for an empty log."""
        return _transaction(self._table(), SHIPPER)

    def maintain(self, *, retention_days: int, now: datetime) -> None:
        """Compact small files, delete days beyond retention, vacuum what no version needs."""
        table = self._table()
        if table is None:
            return
        oldest = np.datetime64(now.astimezone(UTC).date()) - np.timedelta64(retention_days, "D")
        table.delete(f"day < date '{oldest}'")
        table.optimize.compact()
        table.vacuum(retention_hours=168, dry_run=False)

    def predictions_of(self, unit: str) -> set[str]:
        """Ids of the predictions for the client whose hashed key this is."""
        table = self._table()
        if table is None:
            return set()
        return set(_select(table, "prediction_id", [f"unit = {_quoted(unit)}"])["prediction_id"].to_pylist())

    def erase(self, *, prediction_ids: Iterable[str], unit: str | None = None) -> int:
        """Delete these predictions, and all of the client's, from the table and from every file of it; rows deleted.

        Who reads an old version meanwhile finds its files gone, and has to read again. Frames that wait in a spool are
        not in the table yet: ship first.
        """
        ids = sorted(set(prediction_ids))
        conditions = [f"prediction_id IN ({', '.join(map(_quoted, ids))})"] if ids else []
        conditions += [] if unit is None else [f"unit = {_quoted(unit)}"]
        table = self._table()
        if table is None or not conditions:
            return 0
        deleted = _delete(table, " OR ".join(conditions))
        # only files that a version has given up: those that a shipper is just writing belong to none yet
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=False)
        return deleted

    def _ship_once(self, root: Path) -> Shipment:
        for attempt in range(COMMIT_ATTEMPTS):
            table = self._table()
            frames: list[spool.Frame] = []
            for folder in spool.writers(root):
                for frame in spool.read_frames(folder, after=_transaction(table, folder.name)):
                    frames.append(frame)
                    if len(frames) >= MAX_FRAMES:
                        break
            if table is None or not frames:
                return Shipment(0, 0, 0)
            try:
                return self._commit(table, frames)
            except CommitFailedError:  # a compaction or another shipper was faster: read again, try again
                if attempt == COMMIT_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _commit(self, table: DeltaTable, frames: Sequence[spool.Frame]) -> Shipment:
        """Append to the table as it was read: Delta refuses where another shipper has committed since."""
        commit = _transaction(table, SHIPPER) + 1
        rows = [row for frame in frames for row in frame.rows]
        counted = self._admission.judge(rows)
        last = {frame.writer: frame.sequence for frame in frames}
        transactions = [Transaction(SHIPPER, commit), *(Transaction(name, number) for name, number in last.items())]
        write_deltalake(
            table,
            _arrow(rows, commit, counted),
            mode="append",
            commit_properties=CommitProperties(app_transactions=transactions),
        )
        return Shipment(len(rows), len(frames), 0)

    def _create_table(self) -> None:
        try:
            DeltaTable.create(
                self._url,
                SCHEMA,
                mode="ignore",
                partition_by=["day"],
                configuration={"delta.dataSkippingStatsColumns": _STATISTICS},
                storage_options=self._options or None,
            )
        except CommitFailedError:  # another shipper has just made it
            return

    def _table(self) -> DeltaTable | None:
        try:
            return DeltaTable(self._url, storage_options=self._options or None)
        except TableNotFoundError:
            return None


def _near(ordered_ids: Sequence[str]) -> str:
    """A condition that holds for these ids and few others: ids sort by time, as the files do."""
    size = math.ceil(len(ordered_ids) / MAX_ID_RANGES)
    runs = [ordered_ids[start : start + size] for start in range(0, len(ordered_ids), max(size, 1))]
    return " OR ".join(f"prediction_id BETWEEN {_quoted(run[0])} AND {_quoted(run[-1])}" for run in runs)


def _select(table: DeltaTable, what: str, conditions: Sequence[str]) -> pa.Table:
    query = f"SELECT {what} FROM log WHERE {' AND '.join(conditions)}"
    return pa.table(QueryBuilder().register("log", table).execute(query).read_all())


def _delete(table: DeltaTable, condition: str) -> int:
    """Rows that were deleted; again where a shipper was faster."""
    for attempt in range(COMMIT_ATTEMPTS):
        try:
            return int(table.delete(condition)["num_deleted_rows"])
        except CommitFailedError:
            if attempt == COMMIT_ATTEMPTS - 1:
                raise
            table.update_incremental()
    raise AssertionError("unreachable")


def _thinned(table: DeltaTable, conditions: Sequence[str], at_most: int) -> list[str]:
    """A condition on the ids' last four digits, which are random, under which about `at_most` of the rows are left."""
    [count] = _select(table, "count(*) AS n", conditions)["n"].to_pylist()
    share = f"{at_most * 16**4 // count:04x}" if count > at_most else None
    return [] if share is None else [f"substr(prediction_id, 33) < {_quoted(share)}"]


def _from(moment: datetime) -> str:
    start = moment.astimezone(UTC)
    return f"day >= date '{start:%Y-%m-%d}' AND at >= timestamp '{start.isoformat()}'"


def _before(moment: datetime) -> str:
    end = moment.astimezone(UTC)
    return f"day <= date '{end:%Y-%m-%d}' AND at < timestamp '{end.isoformat()}'"


def _quoted(value: str) -> str:
    """A string as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def _transaction(table: DeltaTable | None, name: str) -> int:
    version = None if table is None else table.transaction_version(name)
    return 0 if version is None else int(version)


def _arrow(rows: Sequence[Mapping[str, Any]], commit: int, counted: Sequence[bool]) -> pa.Table:
    moments = pa.array([row["at_us"] for row in rows], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    derived = {"at": moments, "day": moments.cast(pa.date32()), "commit": pa.array([commit] * len(rows), pa.int64())}
    derived["counted"] = pa.array(counted, pa.bool_())
    columns = [
        derived[field.name] if field.name in derived else pa.array([row[field.name] for row in rows], field.type)
        for field in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA)
