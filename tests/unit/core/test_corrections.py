"""The last word of the most trusted source counts; a proof keeps the first."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.corrections import TRUST, first_outcomes, standing_label, standing_outcomes
from monitoring.core.types import Feedback, LabelSource, Outcome
from tests.unit.monitoring.synthetic import NOW, outcome_of

COMPLAINT, REVIEW, SAMPLE, TRUTH = TRUST
HISTORIES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from(TRUST)), max_size=8)


def said(label: str, source: LabelSource, minutes: int) -> Feedback:
    return Feedback("id", "p", source, label, None, 1.0, NOW + timedelta(minutes=minutes), "somebody")


def labelled(label: str, source: LabelSource, minutes: int, prediction_id: str = "p") -> Outcome:
    at = NOW + timedelta(minutes=minutes)
    values = vars(outcome_of(prediction_id, "billing", label, source=source)) | {"labelled_at": at}
    return Outcome(**values)


def test_every_source_has_its_place() -> None:
    assert set(TRUST) == set(LabelSource)


@pytest.mark.parametrize(
    ("history", "counts"),
    [
        ([("early", TRUTH), ("late", TRUTH)], "late"),
        ([("early", COMPLAINT), ("late", REVIEW)], "late"),
        ([("early", TRUTH), ("late", SAMPLE)], "early"),
        ([("early", SAMPLE), ("truth", TRUTH), ("late", SAMPLE)], "truth"),
        ([("a", TRUTH), ("b", TRUTH), ("a", TRUTH)], "a"),
    ],
)
def test_what_counts_for_a_judge_counts_for_training(history: list[tuple[str, LabelSource]], counts: str) -> None:
    feedback = [said(label, source, minutes) for minutes, (label, source) in enumerate(history)]
    outcomes = [labelled(label, source, minutes) for minutes, (label, source) in enumerate(history)]
    learnt = standing_label(feedback)
    assert learnt is not None
    assert learnt.label == counts
    assert [one.label for one in standing_outcomes(outcomes)] == [counts]
    assert [one.label for one in standing_outcomes(outcomes[::-1])] == [counts]
    assert [one.label for one in first_outcomes(outcomes[::-1])] == [history[0][0]]


def test_nothing_said_is_nothing() -> None:
    assert standing_label([]) is None
    assert standing_outcomes([]) == first_outcomes([]) == []


def test_what_was_said_at_once_is_settled_by_trust_and_then_by_place() -> None:
    assert [one.source for one in first_outcomes([labelled("a", SAMPLE, 0), labelled("b", TRUTH, 0)])] == [TRUTH]
    learnt = standing_label([said("a", TRUTH, 0), said("b", TRUTH, 0)])
    assert learnt is not None
    assert learnt.label == "b"
    assert [one.label for one in standing_outcomes([labelled("a", TRUTH, 0), labelled("b", TRUTH, 0)])] == ["b"]


@given(before=HISTORIES, after=HISTORIES)
def test_what_a_proof_has_seen_never_changes(
    before: list[tuple[str, str, LabelSource]], after: list[tuple[str, str, LabelSource]]
) -> None:
    history = [labelled(label, source, n, name) for n, (name, label, source) in enumerate([*before, *after])]
    seen = first_outcomes(history[: len(before)])
    assert first_outcomes(history)[: len(seen)] == seen
