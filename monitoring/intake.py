"""The prediction log as the monitor reads it: one version's answers as a stream with places, windows cut from it.

The stream's order is commit, time, id: it never changes once written, so a place in it stays valid through crashes,
compactions and restarts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from monitoring import labelling
from monitoring.core.ledger.rollout_evidence import SILENT_STEP, Exposure
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.signals import PROJECTED, SIGNALS, Floats
from monitoring.core.types import Variant
from monitoring.signals import Traffic
from monitoring.slices import Metadata
from monitoring.weekly import MOST_ROWS

STREAM_COLUMNS = ("commit", "at", "prediction_id", "version", "variant", "error", "counted", "predicted", *SIGNALS)
TICK_COLUMNS = tuple(dict.fromkeys((*STREAM_COLUMNS, *labelling.COLUMNS, "share", "latency_ms")))
WINDOW_COLUMNS = (*STREAM_COLUMNS, "unit", "text", "projected", "metadata")
_ORDER = [("commit", "ascending"), ("at", "ascending"), ("prediction_id", "ascending")]


@dataclass(frozen=True)
class StreamPoint:
    """A place in a stream: before row number `skip` of commit `commit`, with `position` rows before it in all."""

    position: int
    commit: int
    skip: int

    def after(self, rows: pa.Table, taken: int) -> StreamPoint:
        """The place behind the first `taken` of the stream's `rows` from here on."""
        commits = rows["commit"].to_numpy()[:taken]
        last = int(commits[-1])
        skip = int(np.count_nonzero(commits == last)) + (self.skip if last == self.commit else 0)
        return StreamPoint(self.position + taken, last, skip)


@dataclass(frozen=True)
class Reign:
    """One stay of a version in production: only what it answered as champion since then is judged."""

    version: str
    since: datetime

    def stream(self, rows: pa.Table) -> pa.Table:
        """The rows that belong to it and count, in the stream's order: no candidates, no shadows, no failures."""
        own = (
            (pc.field("version") == self.version)
            & (pc.field("variant") == Variant.PRODUCTION.value)
            & pc.field("error").is_null()
            & pc.field("counted")
            & (pc.field("at") >= pa.scalar(self.since, rows.schema.field("at").type))
        )
        return rows.filter(own).sort_by(_ORDER)


def read_stream(
    log: PredictionLog, reign: Reign, point: StreamPoint, *, until_commit: int, columns: tuple[str, ...]
) -> pa.Table:
    """The stream's rows from `point` to the end of `until_commit`."""
    rows = log.read(version=reign.version, after_commit=point.commit - 1, until_commit=until_commit, columns=columns)
    return reign.stream(rows).slice(point.skip)


def commits_of(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """The stream's rows, one commit at a time: what is drawn at random then never depends on where a tick ended."""
    numbers, starts, sizes = np.unique(rows["commit"].to_numpy(), return_index=True, return_counts=True)
    for number, start, size in zip(numbers, starts, sizes, strict=True):
        yield int(number), rows.slice(start, size)


def signals_of(rows: pa.Table) -> dict[str, Floats]:
    """SIGNALS of the rows, (n,) each."""
    return {name: rows[name].to_numpy().astype(np.float64) for name in SIGNALS}


def predicted_of(rows: pa.Table) -> np.ndarray[Any, np.dtype[np.str_]]:
    """Predicted class names, (n,)."""
    return np.array(rows["predicted"].to_pylist(), dtype=np.str_)


def projected_of(rows: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Projected embeddings, (n, PROJECTED); one that was no number is null in the log, and NaN here."""
    flat = rows["projected"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(rows), PROJECTED))


def seconds_of(rows: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """When each was answered, (n,) in whole seconds since the epoch."""
    return np.asarray(rows["at"].cast(pa.int64()).to_numpy() // 1_000_000)


def as_traffic(rows: pa.Table, *, texts_kept: bool) -> Traffic:
    """Rows (WINDOW_COLUMNS, at least one) as the judges take them; hashed texts are no texts."""
    moments = rows["at"]
    return Traffic(
        ids=rows["prediction_id"].to_pylist(),
        units=rows["unit"].to_pylist(),
        predicted=predicted_of(rows),
        signals=signals_of(rows),
        projected=projected_of(rows).astype(np.float32),
        texts=rows["text"].to_pylist() if texts_kept else [None] * len(rows),
        start=pc.min(moments).as_py(),
        end=pc.max(moments).as_py(),
        metadata=_metadata_of(rows),
        seconds=seconds_of(rows),
    )


def read_span(
    log: PredictionLog, reign: Reign, start: datetime, end: datetime, *, until_commit: int, texts_kept: bool
) -> Traffic | None:
    """What the reign answered from `start` until before `end`, of very much a random part; None where nothing."""
    rows = log.read(
        version=reign.version,
        until_commit=until_commit,
        within=(max(start, reign.since), end),
        evidence_only=True,
        at_most=MOST_ROWS,
        columns=WINDOW_COLUMNS,
    )
    own = reign.stream(rows)
    return as_traffic(own, texts_kept=texts_kept) if len(own) else None


def _metadata_of(rows: pa.Table) -> Metadata:
    coded = rows["metadata"].combine_chunks().dictionary_encode(null_encoding="encode")
    return Metadata.parse(coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist())


def exposures_of(rows: pa.Table, *, slow_ms: float) -> list[Exposure]:
    """Who met which arm of a rollout in these rows, and how those requests went.

    In shadow all meet the champion; how the candidate's silent answers went is told beside it, as SILENT_STEP.
    """
    by_unit: dict[tuple[str, int, str], list[Mapping[str, Any]]] = defaultdict(list)
    in_steps = rows.filter(pc.field("rollout").is_valid())
    columns = ["rollout", "step", "unit", "variant", "share", "at", "error", "latency_ms"]
    for row in in_steps.select(columns).sort_by("at").to_pylist():
        step = SILENT_STEP if row["variant"] == Variant.SHADOW else row["step"]
        by_unit[row["rollout"], step, row["unit"]].append(row)
    return [
        Exposure(
            rollout=rollout,
            step=step,
            unit=unit,
            candidate=requests[0]["variant"] != Variant.PRODUCTION,
            share=requests[0]["share"],
            first_seen=requests[0]["at"],
            requests=len(requests),
            errors=sum(request["error"] is not None for request in requests),
            slow=sum(request["latency_ms"] > slow_ms for request in requests),
        )
        for (rollout, step, unit), requests in by_unit.items()
    ]
