"""The candidate's silent share: what callers ask is asked of it, too, when nobody else needs the machine."""

from __future__ import annotations

from collections.abc import Sequence

from monitoring.core.types import Variant
from service.engine.work import Answer, FinishedBatch, Work


def copies(batch: FinishedBatch, answers: Sequence[Answer]) -> list[Work]:
    """Shadow copies of those works that a candidate is to see; under the same prediction ids, so that they pair."""
    return [
        Work(
            call=work.call,
            row=work.row,
            prediction_id=work.prediction_id,
            text=work.text,
            target=work.shadow,
            variant=Variant.SHADOW,
            step=work.step,
            party=work.party,
            champion_label=answer.label,
        )
        for work, answer in zip(batch.works, answers, strict=True)
        if work.shadow is not None
    ]


def agreements(batch: FinishedBatch, answers: Sequence[Answer]) -> list[bool]:
    """Whether the candidate said what the caller was told, for each copy of a finished shadow batch."""
    return [
        answer.label == work.champion_label
        for work, answer in zip(batch.works, answers, strict=True)
        if work.variant is Variant.SHADOW
    ]
