"""The loop is closed only where everything happened: each missing part is named, the first of them first."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.demo.corpus import Message
from service.demo.outcome import Accuracy, Figures, measure, why_not_closed
from service.demo.traffic import Answer

CLOSED = Figures(
    false_alarms=0,
    detection_delay=240,
    retrained=True,
    promoted=True,
    accuracy_steady=Accuracy(400, 372),
    accuracy_before=Accuracy(300, 150),
    accuracy_after=Accuracy(300, 270),
    failed_requests=0,
)
MISSING: dict[str, tuple[dict[str, Any], str]] = {
    "false alarm": ({"false_alarms": 2}, "2 false alarms before the drift"),
    "detection": ({"detection_delay": None}, "the drift was not detected"),
    "retraining": ({"retrained": False}, "no retrained model passed its gates"),
    "promotion": ({"promoted": False}, "the retrained model was not promoted"),
    "gain": ({"accuracy_after": Accuracy(300, 150)}, "not measurably better: 50.0% of 300, then 50.0% of 300"),
    "requests": ({"failed_requests": 3}, "3 requests failed"),
}


def test_the_loop_is_closed_where_nothing_is_missing() -> None:
    assert why_not_closed(CLOSED) is None
    assert why_not_closed(dataclasses.replace(CLOSED, detection_delay=0)) is None


@given(st.sets(st.sampled_from(sorted(MISSING)), min_size=1))
def test_the_first_missing_part_is_named(missing: set[str]) -> None:
    changes = {name: value for part in missing for name, value in MISSING[part][0].items()}
    first = next(part for part in MISSING if part in missing)
    reason = why_not_closed(dataclasses.replace(CLOSED, **changes))
    assert reason is not None
    assert MISSING[first][1] in reason


@pytest.mark.parametrize(
    ("before", "after", "closed"),
    [
        (Accuracy(300, 150), Accuracy(300, 149), False),
        (Accuracy(300, 150), Accuracy(300, 165), False),
        (Accuracy(300, 150), Accuracy(300, 175), True),
        (Accuracy(10, 5), Accuracy(10, 7), False),
        (Accuracy(0, 0), Accuracy(300, 270), False),
        (Accuracy(300, 150), Accuracy(0, 0), False),
        (Accuracy(50, 0), Accuracy(50, 50), True),
        (Accuracy(50, 50), Accuracy(50, 50), False),
    ],
)
def test_a_gain_counts_only_where_it_is_more_than_chance(before: Accuracy, after: Accuracy, closed: bool) -> None:
    figures = dataclasses.replace(CLOSED, accuracy_before=before, accuracy_after=after)
    assert (why_not_closed(figures) is None) == closed


def test_a_model_that_is_no_better_seldom_passes_for_better(rng: np.random.Generator) -> None:
    def draw() -> Accuracy:
        return Accuracy(300, int(rng.binomial(300, 0.7)))

    passed = sum(
        why_not_closed(dataclasses.replace(CLOSED, accuracy_before=draw(), accuracy_after=draw())) is None
        for _ in range(2_000)
    )
    assert passed / 2_000 < 0.07


def test_accuracy_is_the_share_of_right_answers_and_says_of_how_many() -> None:
    answers = [Answer(Message("hello", "a", "c"), n, "a" if n else "b", "support@1", "production") for n in range(4)]
    assert measure(answers) == Accuracy(4, 3)
    assert str(Accuracy(4, 3)) == "75.0% of 4"
    assert math.isnan(measure([]).value)
    assert str(measure([])) == "unknown"
