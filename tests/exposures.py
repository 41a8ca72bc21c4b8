"""Units of a rollout and labelled predictions of theirs, as a monitor would have joined them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from monitoring.core.ledger.rollout_evidence import Exposure
from monitoring.core.types import LabelSource, Outcome, Rollout, Variant

START = datetime(2026, 1, 5, 12, tzinfo=UTC)


def exposure(
    rollout: Rollout,
    unit: str,
    *,
    candidate: bool = False,
    at: datetime = START,
    step: int | None = None,
    share: float | None = None,
    requests: int = 1,
    errors: int = 0,
    slow: int = 0,
) -> Exposure:
    """A unit of `rollout`, by default in its present step."""
    return Exposure(
        rollout=rollout.id,
        step=rollout.step if step is None else step,
        unit=unit,
        candidate=candidate,
        share=rollout.share if share is None else share,
        first_seen=at,
        requests=requests,
        errors=errors,
        slow=slow,
    )


def outcome(
    rollout: Rollout,
    unit: str,
    *,
    variant: Variant = Variant.PRODUCTION,
    correct: bool = True,
    at: datetime = START,
    labelled_after: timedelta = timedelta(minutes=1),
    source: LabelSource = LabelSource.GROUND_TRUTH,
    prediction: str | None = None,
    step: int | None = None,
    predicted: str = "billing",
    label: str | None = None,
    sampling_probability: float = 1.0,
) -> Outcome:
    """A labelled prediction of one side of `rollout`."""
    return Outcome(
        prediction_id=prediction or f"prediction of {unit}",
        model=rollout.model,
        version=rollout.champion if variant is Variant.PRODUCTION else rollout.candidate,
        variant=variant,
        rollout=rollout.id,
        step=rollout.step if step is None else step,
        unit=unit,
        predicted=predicted,
        label=label or (predicted if correct else "delivery"),
        confidence=0.9,
        source=source,
        sampling_probability=sampling_probability,
        predicted_at=at,
        labelled_at=at + labelled_after,
    )
