from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from monitoring.core.types import Feedback, LabelSource
from training.data import HOLDOUT, TRAIN, VALIDATION
from training.recent import (
    MAX_BASELINE_ROWS,
    Correction,
    DivisionPolicy,
    RecentPrediction,
    next_snapshot,
    unit_share,
)
from training.snapshot import RECENT_HOLDOUT, RECENT_UNLABELLED, WAITING, Row, Snapshot

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
POLICY = DivisionPolicy(holdout_fraction=0.3, new_class_examples=5)
PARENT = Snapshot(
    rows=tuple(
        Row(f"{label} {part}", label, part) for label in ("card", "login") for part in (TRAIN, VALIDATION, HOLDOUT)
    ),
    classes=("card", "login"),
    as_of=NOON - timedelta(days=7),
)
UNITS = [f"unit {number}" for number in range(400)]
HELD_OUT = [unit for unit in UNITS if unit_share(unit) < 0.3]
TRAINED_ON = [unit for unit in UNITS if 0.3 <= unit_share(unit) < 0.85]


def said(label: str, source: LabelSource = LabelSource.GROUND_TRUTH, probability: float = 1.0) -> Feedback:
    return Feedback("id", "prediction", source, label, None, probability, NOON, "somebody")


def prediction(
    unit: str, feedback: Feedback | None = None, *, at: datetime = NOON, text: str = "hello", known_as: str = "p"
) -> RecentPrediction:
    blind = feedback if feedback is not None and feedback.source.outcome_blind else None
    return RecentPrediction(known_as, text, unit, at, feedback, blind)


def grow(
    recent: Sequence[RecentPrediction],
    *,
    parent: Snapshot = PARENT,
    onset_at: datetime | None = None,
    corrections: Mapping[str, Correction] | None = None,
) -> Snapshot:
    return next_snapshot(
        parent, "snapshots/parent", recent, POLICY, corrections=corrections, onset_at=onset_at, as_of=NOON
    )


def test_units_divide_once_and_for_all() -> None:
    recent = [prediction(unit, said("card")) for unit in UNITS for _ in range(2)]
    snapshot = grow(recent)
    homes = {unit: {row.split for row in snapshot.rows if row.unit == unit} for unit in UNITS}
    assert all(len(found) == 1 for found in homes.values())
    shares = {
        part: sum(found == {part} for found in homes.values()) / 400 for part in (TRAIN, VALIDATION, RECENT_HOLDOUT)
    }
    assert shares[RECENT_HOLDOUT] == pytest.approx(0.3, abs=0.06)
    assert shares[VALIDATION] == pytest.approx(0.105, abs=0.04)
    again = grow([prediction(unit, said("login")) for unit in HELD_OUT], parent=snapshot)
    assert not {row.unit for row in again.rows if row.split in (TRAIN, VALIDATION)} & set(HELD_OUT)


def test_complaints_teach_and_never_judge() -> None:
    complaint = said("login", LabelSource.COMPLAINT)
    snapshot = grow([prediction(HELD_OUT[0], complaint), prediction(TRAINED_ON[0], complaint)])
    recent = {row.split: row for row in snapshot.rows if row.unit}
    assert recent[RECENT_UNLABELLED].label is None
    assert recent[RECENT_UNLABELLED].unit == HELD_OUT[0]
    assert recent[TRAIN].label == "login"
    assert RECENT_HOLDOUT not in recent


def test_sampled_labels_weigh_by_their_probability_and_average_one_when_old() -> None:
    sample = [
        prediction(HELD_OUT[0], said("card", LabelSource.RANDOM_SAMPLE, 0.1)),
        prediction(HELD_OUT[1], said("card")),
    ]
    first = grow(sample)
    assert [row.weight for row in first.rows if row.split == RECENT_HOLDOUT] == [10.0, 1.0]
    second = grow([prediction(TRAINED_ON[0], said("card"))], parent=first)
    assert not [row for row in second.rows if row.split == RECENT_HOLDOUT]
    folded = [row.weight for row in second.rows if row.split == HOLDOUT and row.unit]
    assert folded == pytest.approx([10 / 5.5, 1 / 5.5])


def test_a_part_reads_weights_that_average_one_within_each_split() -> None:
    sample = [prediction(unit, said("card", LabelSource.RANDOM_SAMPLE, 0.1)) for unit in HELD_OUT[:4]]
    part = grow(sample).part(HOLDOUT, RECENT_HOLDOUT)
    assert part.weights.tolist() == [1.0] * 6


def test_a_new_class_waits_until_it_has_enough_examples() -> None:
    few = grow([prediction(unit, said("crypto")) for unit in TRAINED_ON[:4]])
    assert few.classes == PARENT.classes
    assert few.classes_waiting == {"crypto": 4}
    assert sum(row.split == WAITING for row in few.rows) == 4

    more = grow([prediction(TRAINED_ON[4], said("crypto"))], parent=few)
    assert more.classes == ("card", "login", "crypto")
    assert more.classes_added == ("crypto",)
    assert more.classes_waiting == {}
    assert sum(row.split == TRAIN and row.label == "crypto" for row in more.rows) == 5
    assert more.new_labels == 1


def test_a_new_class_that_only_the_hold_out_has_cannot_be_learnt() -> None:
    snapshot = grow([prediction(unit, said("crypto")) for unit in HELD_OUT[:8]])
    assert snapshot.classes_waiting == {"crypto": 8}
    assert sum(row.split == RECENT_HOLDOUT and row.label == "crypto" for row in snapshot.rows) == 8


def test_what_came_before_the_onset_is_the_old_regime() -> None:
    before, after = NOON - timedelta(hours=2), NOON - timedelta(hours=1)
    recent = [
        prediction(HELD_OUT[0], said("card"), at=before),
        prediction(HELD_OUT[1], said("card"), at=after),
        prediction(HELD_OUT[2], at=before),
        prediction(HELD_OUT[3], at=after),
        prediction(TRAINED_ON[0], said("card"), at=before),
    ]
    snapshot = grow(recent, onset_at=NOON - timedelta(minutes=90))
    assert {row.unit: row.split for row in snapshot.rows if row.unit} == {
        HELD_OUT[0]: HOLDOUT,
        HELD_OUT[1]: RECENT_HOLDOUT,
        HELD_OUT[3]: RECENT_UNLABELLED,
        TRAINED_ON[0]: TRAIN,
    }


def test_the_baseline_keeps_the_newest_rows_within_its_limit() -> None:
    recent = [prediction("unit", text=str(number)) for number in range(MAX_BASELINE_ROWS + 10)]
    snapshot = grow([prediction(HELD_OUT[0], said("card")), *recent])
    kept = [row.text for row in snapshot.rows if row.split == RECENT_UNLABELLED]
    assert len(kept) == MAX_BASELINE_ROWS - 1
    assert kept[-1] == str(MAX_BASELINE_ROWS + 9)


def test_unlabelled_text_is_not_inherited() -> None:
    first = grow([prediction(TRAINED_ON[0])])
    assert first.counts()[RECENT_UNLABELLED] == 1
    second = grow([replace(prediction(TRAINED_ON[1]), label=said("card"))], parent=first)
    assert second.counts()[RECENT_UNLABELLED] == 0


def test_a_corrected_label_takes_the_place_of_the_one_that_was_learnt_and_moves_no_row() -> None:
    first = grow(
        [
            prediction(TRAINED_ON[0], said("card"), known_as="trained"),
            prediction(HELD_OUT[0], said("card", LabelSource.RANDOM_SAMPLE, 0.1), known_as="held out"),
            prediction(HELD_OUT[1], said("card"), known_as="another"),
            prediction(TRAINED_ON[1], said("crypto"), known_as="waits"),
        ]
    )
    now = said("login")
    corrections = {name: Correction(now, now) for name in ("trained", "held out", "waits")}
    second = grow([], parent=first, corrections=corrections)
    assert {row.prediction_id: (row.label, row.split) for row in second.rows if row.unit} == {
        "trained": ("login", TRAIN),
        "held out": ("login", HOLDOUT),
        "another": ("card", HOLDOUT),
        "waits": ("login", TRAIN),
    }
    assert len(second.rows) == len(PARENT.rows) + 4
    assert [row.weight for row in second.rows if row.unit in HELD_OUT] == pytest.approx([10 / 5.5, 1 / 5.5])
    assert second.new_labels == 3
    assert second.classes_waiting == {}


def test_a_complaint_corrects_no_row_that_judges() -> None:
    first = grow([prediction(HELD_OUT[0], said("card"), known_as="held out")])
    complaint = said("login", LabelSource.COMPLAINT)
    [row] = [
        row for row in grow([], parent=first, corrections={"held out": Correction(complaint, None)}).rows if row.unit
    ]
    assert (row.label, row.split) == ("card", HOLDOUT)


def test_a_label_that_becomes_unknown_waits() -> None:
    first = grow([prediction(TRAINED_ON[0], said("card"), known_as="p")])
    now = said("crypto")
    second = grow([], parent=first, corrections={"p": Correction(now, now)})
    assert [row.split for row in second.rows if row.unit] == [WAITING]
    assert second.classes_waiting == {"crypto": 1}
