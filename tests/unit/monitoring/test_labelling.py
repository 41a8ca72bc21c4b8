"""Rows × feedback → outcomes, whatever the order and however often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.types import Feedback, LabelSource, Variant
from monitoring.labelling import outcomes_of
from tests.unit.monitoring.synthetic import NOW


def row(prediction_id: str, version: str = "v1", **changes: Any) -> dict[str, Any]:
    """A row of the log, as far as joining reads it."""
    plain = {
        "prediction_id": prediction_id,
        "version": version,
        "variant": "production",
        "rollout": None,
        "step": -1,
        "unit": "ann",
        "predicted": "billing",
        "confidence": 0.8,
        "error": None,
        "at": NOW,
        "metadata": "{}",
    }
    return plain | changes


def said(
    prediction_id: str, label: str | None, source: LabelSource = LabelSource.GROUND_TRUTH, minutes: int = 0
) -> Feedback:
    """A label, or a rating alone."""
    moment = NOW + timedelta(minutes=minutes)
    return Feedback(f"{prediction_id}{label}{source}", prediction_id, source, label, 1.0, 0.5, moment, "shop")


def test_an_outcome_holds_what_the_row_and_the_label_say() -> None:
    shadow = row("p", "v2", variant="shadow", rollout="r", step=-1, predicted="delivery")
    [one, other] = outcomes_of("support", [row("p"), shadow], [said("p", "billing", minutes=5)])
    assert (one.version, one.variant, one.correct) == ("v1", Variant.PRODUCTION, True)
    assert (other.version, other.variant, other.rollout, other.correct) == ("v2", Variant.SHADOW, "r", False)
    assert (one.unit, one.sampling_probability, one.predicted_at) == ("ann", 0.5, NOW)
    assert one.labelled_at == NOW + timedelta(minutes=5)


def test_failures_ratings_and_strangers_give_no_outcome() -> None:
    rows = [row("failed", error="timeout"), row("rated"), row("unlabelled")]
    assert outcomes_of("support", rows, [said("failed", "a"), said("rated", None), said("stranger", "a")]) == []


def test_every_label_is_kept_beside_what_it_corrects() -> None:
    feedback = [said("p", "late", minutes=2), said("p", "early", minutes=1), said("p", "x", LabelSource.COMPLAINT)]
    found = outcomes_of("support", [row("p")], feedback)
    assert {(outcome.source, outcome.label) for outcome in found} == {
        (LabelSource.GROUND_TRUTH, "early"),
        (LabelSource.GROUND_TRUTH, "late"),
        (LabelSource.COMPLAINT, "x"),
    }


@given(data=st.data(), ids=st.lists(st.integers(0, 8), max_size=12), labelled=st.lists(st.integers(0, 8), max_size=12))
def test_order_and_repetition_change_nothing(data: st.DataObject, ids: list[int], labelled: list[int]) -> None:
    rows, feedback = [row(str(n)) for n in ids], [said(str(n), "billing") for n in labelled]
    expected = set(outcomes_of("support", rows, feedback))
    again = outcomes_of("support", data.draw(st.permutations(rows * 2)), data.draw(st.permutations(feedback)))
    assert set(again) == expected
    assert len(again) == len({str(n) for n in ids} & {str(n) for n in labelled})
