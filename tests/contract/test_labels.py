"""Feedback is kept once and says how it was drawn; outcomes are kept once, beside what they correct."""

from __future__ import annotations

import dataclasses
import math
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, select

from monitoring.core import tables
from monitoring.core.errors import InvalidInput
from monitoring.core.ledger import labels
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import Feedback, LabelSource, Outcome, Variant
from tests.contract.people import NOON, champion
from tests.contract.race import race

MINUTE = timedelta(minutes=1)


def prediction(number: int = 0, at: datetime = NOON) -> str:
    return str(UUID(int=round(at.timestamp() * 1000) << 80 | 0x7 << 76 | 0x2 << 62 | number))


def say(connection: Connection, **changes: Any) -> tuple[Feedback, bool]:
    values: dict[str, Any] = {
        "prediction_id": prediction(),
        "source": LabelSource.GROUND_TRUTH,
        "label": "billing",
        "rating": None,
        "sampling_probability": None,
        "author": "shop",
        "now": NOON + MINUTE,
    }
    return labels.add_feedback(connection, **(values | changes))


def outcome(number: int = 0, **changes: Any) -> Outcome:
    made = Outcome(
        prediction_id=prediction(number),
        model="support",
        version="v1",
        variant=Variant.PRODUCTION,
        rollout=None,
        step=-1,
        unit="0011223344556677",
        predicted="billing",
        label="billing",
        confidence=0.9,
        source=LabelSource.GROUND_TRUTH,
        sampling_probability=1.0,
        predicted_at=NOON + number * MINUTE,
        labelled_at=NOON + number * MINUTE + MINUTE,
    )
    return dataclasses.replace(made, **changes)


def test_the_same_thing_said_twice_is_kept_once(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        first, new = say(connection)
        assert new
        again, new = say(connection, author="another", now=NOON + 2 * MINUTE)
        assert (again, new) == (first, False)
        assert first.sampling_probability == 1.0


def test_the_same_thing_said_at_once_is_kept_once(ledger: Ledger) -> None:
    def tell(_: int) -> tuple[Feedback, bool]:
        with ledger.begin() as connection:
            return say(connection)

    answers = [answer for answer in race(tell, 4) if isinstance(answer, tuple)]
    assert sorted(new for _, new in answers) == [False, False, False, True]
    assert len({item.id for item, _ in answers}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"prediction_id": prediction(1)},
        {"label": "delivery"},
        {"rating": 0.5},
        {"source": LabelSource.REVIEW},
    ],
    ids=lambda change: next(iter(change)),
)
def test_something_else_said_is_kept_beside_it(ledger: Ledger, change: dict[str, Any]) -> None:
    with ledger.begin() as connection:
        say(connection)
        assert say(connection, **change)[1]
        assert len(labels.feedback_after(connection, 0, limit=10)) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prediction_id": "00000000-0000-4000-8000-000000000000"}, "prediction_id"),
        ({"prediction_id": "ffffffff-ffff-7fff-bfff-ffffffffffff"}, "prediction_id"),
        ({"prediction_id": prediction(at=NOON + 2 * MINUTE)}, "prediction_id"),
        ({"prediction_id": prediction().upper()}, "prediction_id"),
        ({"label": None}, "label"),
        ({"source": LabelSource.RANDOM_SAMPLE}, "sampling_probability"),
        ({"sampling_probability": 0.0}, "sampling_probability"),
        ({"sampling_probability": -0.1}, "sampling_probability"),
        ({"sampling_probability": 1.01}, "sampling_probability"),
        ({"sampling_probability": math.nan}, "sampling_probability"),
    ],
)
def test_feedback_that_cannot_be_used_is_refused(ledger: Ledger, change: dict[str, Any], field: str) -> None:
    with ledger.begin() as connection:
        with pytest.raises(InvalidInput) as caught:
            say(connection, **change)
        assert caught.value.field == field
        assert labels.feedback_after(connection, 0, limit=10) == []


def test_a_random_sample_keeps_the_chance_with_which_it_was_drawn(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        item, _ = say(connection, source=LabelSource.RANDOM_SAMPLE, sampling_probability=0.25)
        assert item.sampling_probability == 0.25


def test_feedback_is_read_on_from_any_place_in_order_of_arrival(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        said = [say(connection, prediction_id=prediction(number))[0] for number in (3, 1, 2)]
        [first, second] = labels.feedback_after(connection, 0, limit=2)
        [third] = labels.feedback_after(connection, second[0], limit=2)
        assert [item for _, item in (first, second, third)] == said
        assert labels.feedback_after(connection, third[0], limit=2) == []


def test_labels_are_found_by_prediction_and_ratings_are_none(ledger: Ledger) -> None:
    wanted = [prediction(number) for number in range(1_200)]
    with ledger.begin() as connection:
        for number in (0, 600, 1_199):
            say(connection, prediction_id=wanted[number])
        say(connection, prediction_id=wanted[1], label=None, rating=1.0)
        say(connection, prediction_id=prediction(5_000))
        found = labels.labels_for(connection, wanted)
    assert [item.prediction_id for item in found] == [wanted[number] for number in (0, 600, 1_199)]


def test_what_nobody_could_have_learnt_from_before(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        say(connection, prediction_id=prediction(1))
        say(connection, prediction_id=prediction(1), label="delivery", now=NOON + 3 * MINUTE)
        say(connection, prediction_id=prediction(2), label=None, rating=1.0, now=NOON + MINUTE)
        say(connection, prediction_id=prediction(2), now=NOON + 3 * MINUTE)
        assert labels.first_labelled_since(connection, NOON + 2 * MINUTE) == [prediction(2)]
        assert sorted(labels.labelled_since(connection, NOON + 2 * MINUTE)) == [prediction(1), prediction(2)]
        assert labels.labelled_since(connection, NOON + 3 * MINUTE) == []


def test_a_correction_that_is_taken_back_is_new_and_its_repetition_is_not(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        said = [
            say(connection, label=label, now=NOON + minutes * MINUTE)[1]
            for minutes, label in enumerate(["billing", "delivery", "billing", "billing", "delivery", "delivery"], 1)
        ]
        kept = [item.label for item in labels.labels_for(connection, [prediction()])]
        assert not say(connection, label="billing", now=NOON + 9 * MINUTE, from_file=True)[1]
    assert said == [True, True, True, False, True, False]
    assert kept == ["billing", "delivery", "billing", "delivery"]


def test_an_outcome_is_kept_once_and_its_correction_beside_it(ledger: Ledger) -> None:
    rows = [
        outcome(),
        outcome(label="delivery", labelled_at=NOON + 5 * MINUTE),
        outcome(version="v2", variant=Variant.SHADOW),
        outcome(source=LabelSource.REVIEW),
    ]
    with ledger.begin() as connection:
        assert labels.add_outcomes(connection, rows) == 4
        assert labels.add_outcomes(connection, rows) == 0
        assert labels.find_outcomes(connection) == rows


def test_outcomes_are_found_by_what_is_asked(ledger: Ledger) -> None:
    rows = [
        outcome(3),
        outcome(1, version="v2"),
        outcome(2, rollout="r1", step=0, variant=Variant.CANDIDATE),
        outcome(4, model="triage"),
    ]

    def numbers(**asked: Any) -> list[int]:
        with ledger.read() as connection:
            return [rows.index(row) for row in labels.find_outcomes(connection, **asked)]

    with ledger.begin() as connection:
        labels.add_outcomes(connection, rows)
    assert numbers() == [1, 2, 0, 3]
    assert numbers(newest=2) == [0, 3]
    assert numbers(version="v2") == [1]
    assert numbers(rollout="r1") == [2]
    assert numbers(model="support", since=NOON + 2 * MINUTE) == [2, 0]
    assert numbers(until=NOON + 3 * MINUTE) == [1, 2]
    assert numbers(until=NOON + 4 * MINUTE, newest=1) == [0]
    assert numbers(sources=[LabelSource.REVIEW]) == []
    assert numbers(sources=[LabelSource.REVIEW, LabelSource.GROUND_TRUTH]) == [1, 2, 0, 3]
    assert numbers(variants=[Variant.CANDIDATE]) == [2]
    assert numbers(variants=[]) == []


def test_labelled_predictions_are_counted_once_and_without_shadow_copies(ledger: Ledger) -> None:
    rows = [
        outcome(0),
        outcome(1),
        outcome(1, source=LabelSource.REVIEW),
        outcome(2, variant=Variant.SHADOW),
        outcome(3, model="triage"),
    ]
    with ledger.begin() as connection:
        labels.add_outcomes(connection, rows)
        assert labels.count_labelled(connection, "support", since=NOON) == 2
        assert labels.count_labelled(connection, "support", since=NOON + MINUTE) == 1
        for moment, count in ((NOON, 2), (NOON + 24 * 60 * MINUTE, 0)):
            assert labels.count_labelled(connection, "support", since=NOON, labelled_since=moment) == count


def test_proposed_classes_are_those_that_the_version_does_not_know(ledger: Ledger) -> None:
    said = ["gift_card", "warranty", "gift_card", "billing"]
    with ledger.begin() as connection:
        version = champion(connection)
        rows = [outcome(number, label=label, version=version.id) for number, label in enumerate(said)]
        copy = dataclasses.replace(rows[1], version="another", variant=Variant.SHADOW)
        labels.add_outcomes(connection, [*rows, copy])
        proposed = labels.proposed_classes(connection, "support", version.id)
        assert list(proposed.items()) == [("gift_card", 2), ("warranty", 1)]
        assert labels.proposed_classes(connection, "triage", version.id) == {}
        slip = dataclasses.replace(rows[1], label="billing", labelled_at=NOON + 9 * MINUTE)
        labels.add_outcomes(connection, [slip, dataclasses.replace(slip, version="another", variant=Variant.SHADOW)])
        assert list(labels.proposed_classes(connection, "support", version.id).items()) == [("gift_card", 2)]


def test_any_text_is_a_label(ledger: Ledger) -> None:
    name = "Robert'); DROP TABLE feedback;-- 🎁"
    with ledger.begin() as connection:
        say(connection, label=name)
        assert connection.execute(select(tables.feedback.c.label)).scalar_one() == name
