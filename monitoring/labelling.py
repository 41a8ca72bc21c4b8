"""Feedback × prediction log → outcomes: each side's new rows meet all rows of the other, so that order does not matter.

A label may come before its row is shipped, weeks later, or twice; the ledger keeps an outcome for each, corrections
beside what they correct (`core.corrections` says which counts). What is joined again after a crash changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from monitoring.core.ledger import labels
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.types import Feedback, Outcome, Variant
from monitoring.slices import read_metadata, slices_of

MAX_FEEDBACK = 2_000
OVERLAP = 200
"""Feedback is read again this far back: PostgreSQL may commit a lower sequence number after a higher one."""

COLUMNS = (
    "prediction_id",
    "version",
    "variant",
    "rollout",
    "step",
    "unit",
    "predicted",
    "confidence",
    "error",
    "at",
    "metadata",
)


@dataclass(frozen=True)
class Joined:
    """Outcomes found, the last feedback read for them, and whether more waits."""

    outcomes: list[Outcome]
    feedback: int
    more: bool


def join_feedback(
    ledger: Ledger, log: PredictionLog, *, model: str, new_rows: pa.Table, after: int, slices: Sequence[str] = ()
) -> Joined:
    """Join feedback after sequence `after` with all rows of `model`, and `new_rows` (COLUMNS) with all feedback.

    `slices`: the declared ones, which each outcome then names as far as it belongs to them.
    """
    with ledger.read() as connection:
        read = labels.feedback_after(connection, max(after - OVERLAP, 0), limit=MAX_FEEDBACK + OVERLAP)
        of_new_rows = labels.labels_for(connection, new_rows["prediction_id"].unique().to_pylist())
    given = [item for _, item in read if item.label is not None]
    rows = new_rows.select(COLUMNS)
    if given:
        answered = log.read(model=model, prediction_ids={item.prediction_id for item in given}, columns=COLUMNS)
        rows = pa.concat_tables([rows, answered.select(COLUMNS)])
    last = max((sequence for sequence, _ in read), default=after)
    outcomes = outcomes_of(model, rows.to_pylist(), [*given, *of_new_rows], slices)
    return Joined(outcomes, max(last, after), more=len(read) == MAX_FEEDBACK + OVERLAP)


def outcomes_of(
    model: str, rows: Iterable[Mapping[str, Any]], feedback: Sequence[Feedback], slices: Sequence[str] = ()
) -> list[Outcome]:
    """Every version's answer beside every label that was given for it; failed predictions have no outcome."""
    given: dict[str, list[Feedback]] = defaultdict(list)
    for item in sorted(feedback, key=lambda item: item.received_at):
        given[item.prediction_id].append(item)
    found: dict[tuple[str, str, str, str, datetime], Outcome] = {}
    for row in rows:
        if row["error"] is not None:
            continue
        for item in given.get(row["prediction_id"], ()):
            if item.label is not None:
                key = (row["prediction_id"], row["version"], item.source, item.label, item.received_at)
                found.setdefault(key, _outcome(model, row, item, item.label, slices))
    return list(found.values())


def _outcome(model: str, row: Mapping[str, Any], item: Feedback, label: str, slices: Sequence[str]) -> Outcome:
    return Outcome(
        prediction_id=row["prediction_id"],
        model=model,
        version=row["version"],
        variant=Variant(row["variant"]),
        rollout=row["rollout"],
        step=row["step"],
        unit=row["unit"],
        predicted=row["predicted"],
        label=label,
        confidence=row["confidence"],
        source=item.source,
        sampling_probability=item.sampling_probability,
        predicted_at=row["at"],
        labelled_at=item.received_at,
        slices=slices_of(read_metadata(row["metadata"]), slices) if slices else (),
    )
