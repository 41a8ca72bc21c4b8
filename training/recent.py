"""What came in since the last training: logged predictions joined with what was said about them, and how they divide.

Units (assignment keys) are divided by hash, the same way in every generation: the hold-out's never enter training.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from monitoring.core.corrections import standing_label
from monitoring.core.ids import unit_hash
from monitoring.core.ledger import labels as ledger_labels
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.types import Feedback, Variant
from training.data import HOLDOUT, TRAIN, VALIDATION
from training.snapshot import RECENT_HOLDOUT, RECENT_UNLABELLED, WAITING, Row, Snapshot

COLUMNS = ("prediction_id", "variant", "unit", "at", "text", "error")
MAX_BASELINE_ROWS = 20_000
VALIDATION_SHARE = 0.15


@dataclass(frozen=True)
class RecentPrediction:
    """A logged text with what is known about it by now.

    `label` is the one that counts of any source; `truth` of the outcome-blind ones, which alone may judge.
    """

    prediction_id: str
    text: str
    unit: str
    at: datetime
    label: Feedback | None
    truth: Feedback | None


@dataclass(frozen=True)
class Correction:
    """What now counts for a prediction that a snapshot holds: of all sources, and of the outcome-blind ones."""

    label: Feedback
    truth: Feedback | None


@dataclass(frozen=True)
class DivisionPolicy:
    """How recent units are divided, and from how many examples a new class is added."""

    holdout_fraction: float
    new_class_examples: int


def read_recent(
    ledger: Ledger, log: PredictionLog, model: str, *, since: datetime, as_of: datetime
) -> list[RecentPrediction]:
    """Predictions made after `since`, and older ones first labelled after it, in order of time; known by `as_of`."""
    with ledger.read() as connection:
        labelled = ledger_labels.first_labelled_since(connection, since)
    fresh = log.read(model=model, since=since, columns=COLUMNS).to_pylist()
    overdue = set(labelled) - {row["prediction_id"] for row in fresh}
    late = log.read(model=model, prediction_ids=overdue, columns=COLUMNS).to_pylist() if overdue else []
    logged = {row["prediction_id"]: row for row in (*late, *fresh) if _usable(row) and row["at"] <= as_of}
    with ledger.read() as connection:
        said = ledger_labels.labels_for(connection, list(logged))
    by_prediction = _by_prediction(said, as_of)
    recent = [_join(row, by_prediction.get(prediction_id, [])) for prediction_id, row in logged.items()]
    return sorted(recent, key=lambda prediction: prediction.at)


def read_corrections(ledger: Ledger, parent: Snapshot, *, as_of: datetime) -> dict[str, Correction]:
    """What was said anew about the parent's own predictions, by id, and changes a row; known by `as_of`.

    The log is not asked, for the snapshot has their texts, however long ago they were made.
    """
    rows = {row.prediction_id: row for row in parent.rows if row.prediction_id}
    with ledger.read() as connection:
        again = rows.keys() & set(ledger_labels.labelled_since(connection, parent.as_of))
        said = ledger_labels.labels_for(connection, sorted(again))
    found = {}
    for prediction_id, items in _by_prediction(said, as_of).items():
        row, (label, truth) = rows[prediction_id], _standing(items)
        if label is None:
            continue
        correction = Correction(label, truth)
        if _correct(row, correction).label != row.label:
            found[prediction_id] = correction
    return found


def next_snapshot(
    parent: Snapshot,
    parent_name: str,
    recent: Sequence[RecentPrediction],
    policy: DivisionPolicy,
    *,
    corrections: Mapping[str, Correction] | None = None,
    onset_at: datetime | None,
    as_of: datetime,
) -> Snapshot:
    """The parent's rows, as they are labelled by now, plus the recent ones.

    What came before `onset_at` belongs to the old regime. A row whose label was corrected stays where its unit put it.
    """
    corrected = {} if corrections is None else corrections
    inherited = [_correct(row, corrected.get(row.prediction_id)) for row in parent.rows]
    regimes: tuple[list[RecentPrediction], list[RecentPrediction]] = ([], [])
    for prediction in recent:
        regimes[onset_at is None or prediction.at >= onset_at].append(prediction)
    before, since = ([_divide(prediction, policy) for prediction in regime] for regime in regimes)
    given = [*_inherit(inherited), *_inherit(before), *since]
    added, waiting = _new_classes(given, parent.classes, policy.new_class_examples)
    classes = (*parent.classes, *added)
    return Snapshot(
        rows=tuple(_newest_for_baseline([_settle(row, classes) for row in given])),
        classes=classes,
        as_of=as_of,
        parent=parent_name,
        classes_added=added,
        classes_waiting=waiting,
        new_labels=sum(prediction.label is not None for prediction in recent) + len(corrected),
    )


def _usable(row: Mapping[str, Any]) -> bool:
    # a shadow's row repeats a prediction that is there already
    return row["variant"] != Variant.SHADOW and row["error"] is None and row["text"] is not None


def _by_prediction(said: Iterable[Feedback], as_of: datetime) -> dict[str, list[Feedback]]:
    found: defaultdict[str, list[Feedback]] = defaultdict(list)
    for item in said:
        if item.received_at <= as_of:
            found[item.prediction_id].append(item)
    return found


def _standing(said: Sequence[Feedback]) -> tuple[Feedback | None, Feedback | None]:
    """What counts of all that was said about a prediction, and of what the outcome-blind sources said."""
    return standing_label(said), standing_label(item for item in said if item.source.outcome_blind)


def _join(row: Mapping[str, Any], said: Sequence[Feedback]) -> RecentPrediction:
    return RecentPrediction(row["prediction_id"], row["text"], row["unit"], row["at"], *_standing(said))


def _correct(row: Row, correction: Correction | None) -> Row:
    """The row with the label that counts by now. What nobody had labelled, or not blindly, is left to `read_recent`."""
    if correction is None or row.split == RECENT_UNLABELLED:
        return row
    now = correction.truth if row.split in (HOLDOUT, RECENT_HOLDOUT) else correction.label
    return row if now is None else replace(row, label=now.label, source=now.source)


def _divide(prediction: RecentPrediction, policy: DivisionPolicy) -> Row:
    place = unit_share(prediction.unit)
    held_out = place < policy.holdout_fraction
    validating = place >= 1 - VALIDATION_SHARE * (1 - policy.holdout_fraction)
    if held_out and prediction.truth is not None:
        weight = 1.0 / prediction.truth.sampling_probability
        return labelled_row(prediction, prediction.truth, RECENT_HOLDOUT, weight)
    if not held_out and prediction.label is not None:
        blind = prediction.label.source.outcome_blind
        return labelled_row(prediction, prediction.label, VALIDATION if validating and blind else TRAIN, 1.0)
    return Row(
        prediction.text, None, RECENT_UNLABELLED, 1.0, prediction.unit, "log", prediction_id=prediction.prediction_id
    )


def unit_share(unit: str) -> float:
    """Where a unit falls in [0, 1): uniform over units, fixed for each, independent of rollout assignment."""
    return int(unit_hash(f"training-split:{unit}"), 16) / 2**64


def labelled_row(prediction: RecentPrediction, said: Feedback, split: str, weight: float) -> Row:
    """The prediction's row, with what was `said` of it for a label."""
    return Row(prediction.text, said.label, split, weight, prediction.unit, said.source, prediction.prediction_id)


def _inherit(rows: Sequence[Row]) -> list[Row]:
    """Rows as the next regime sees them: their recent hold-out has become old, their unlabelled text is of no use."""
    sampled = [row.weight for row in rows if row.split == RECENT_HOLDOUT]
    mean = sum(sampled) / len(sampled) if sampled else 1.0
    return [
        # sampling weights count among their own kind; beside the other hold-out rows they average one
        replace(row, split=HOLDOUT, weight=row.weight / mean) if row.split == RECENT_HOLDOUT else row
        for row in rows
        if row.split != RECENT_UNLABELLED
    ]


def _new_classes(rows: Iterable[Row], known: Sequence[str], enough: int) -> tuple[tuple[str, ...], dict[str, int]]:
    """Unknown labels with enough examples, at least two of them to train on; and the counts of the others."""
    examples: Counter[str] = Counter()
    trainable: Counter[str] = Counter()
    for row in rows:
        if row.label is not None and row.label not in known:
            examples[row.label] += 1
            trainable[row.label] += row.split in (TRAIN, WAITING)
    added = {label for label, count in examples.items() if count >= enough and trainable[label] >= 2}
    return tuple(sorted(added)), {label: examples[label] for label in sorted(examples) if label not in added}


def _settle(row: Row, classes: Sequence[str]) -> Row:
    """Rows of classes that the model will not know wait; those of classes that it now learns wait no more."""
    if row.split in (TRAIN, VALIDATION, WAITING) and row.label not in classes:
        return replace(row, split=WAITING)
    return replace(row, split=TRAIN) if row.split == WAITING else row


def _newest_for_baseline(rows: Sequence[Row]) -> list[Row]:
    """All rows but the oldest of the recent ones that are over the baseline's limit."""
    labelled = sum(row.split == RECENT_HOLDOUT for row in rows)
    unlabelled = [place for place, row in enumerate(rows) if row.split == RECENT_UNLABELLED]
    surplus = set(unlabelled[: max(0, labelled + len(unlabelled) - MAX_BASELINE_ROWS)])
    return [row for place, row in enumerate(rows) if place not in surplus]
