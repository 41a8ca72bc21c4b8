"""Answers of an imaginary classifier, drawn in microseconds, and values to build readings from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from monitoring.baseline import Baseline, build_baseline
from monitoring.core.signals import PROJECTED, Predictions
from monitoring.core.types import LabelSource, Outcome, Variant
from monitoring.signals import Traffic, traffic_of

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
CLASSES = ("billing", "delivery", "account", "other")
VOCABULARY = tuple(f"{first}{second}" for first in "abcdefghij" for second in "uvwxyz")


def answers(
    n: int, rng: np.random.Generator, *, new_topic: float = 0.0, longer: float = 1.0
) -> tuple[Predictions, list[str], list[str]]:
    """Predictions, texts, labels; a share `new_topic` is of something unknown, texts are `longer` times as long."""
    classes = rng.choice(len(CLASSES), size=n, p=(0.4, 0.3, 0.2, 0.1))
    strange = rng.random(n) < new_topic
    logits = rng.normal(size=(n, len(CLASSES)))
    logits[np.arange(n), classes] += np.where(strange, 0.0, rng.gamma(6.0, 1.0, n))
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    ordered = np.sort(probabilities, axis=1)
    centres = np.eye(len(CLASSES), PROJECTED)[classes] * np.where(strange, 0.0, 3.0)[:, None]
    predictions = Predictions(
        probabilities=probabilities,
        predicted=probabilities.argmax(axis=1),
        confidence=ordered[:, -1],
        entropy=-(probabilities * np.log(probabilities)).sum(axis=1),
        margin=ordered[:, -1] - ordered[:, -2],
        similarity=1.0 - rng.beta(2.0, 8.0, n) - 0.3 * strange,
        rarity=rng.normal(4.0, 0.5, n) + 2.0 * strange,
        length=rng.poisson(9.0 * longer, n) + np.float64(1.0),
        projected=(centres + rng.normal(size=(n, PROJECTED))).astype(np.float16),
    )
    said = rng.choice(VOCABULARY, size=(n, 6)).tolist()
    texts = [" ".join([*spoken, *(["zebra"] if odd else [])]) for spoken, odd in zip(said, strange, strict=True)]
    labels = ["zoo" if odd else CLASSES[number] for number, odd in zip(classes, strange, strict=True)]
    return predictions, texts, labels


def baseline_of(n: int, rng: np.random.Generator, *, labelled: bool = True) -> Baseline:
    """A baseline of `n` rows."""
    predictions, texts, labels = answers(n, rng)
    validation, _, _ = answers(400, rng)
    _, training, _ = answers(400, rng)
    return build_baseline(
        predictions=predictions,
        texts=texts,
        labels=labels if labelled else [None] * n,
        classes=CLASSES,
        edges_from=validation,
        vocabulary=training,
        seed=1,
    )


def window_of(
    n: int, rng: np.random.Generator, *, new_topic: float = 0.0, longer: float = 1.0, texts_kept: bool = True
) -> tuple[Traffic, list[Outcome]]:
    """A window of traffic, and the outcomes that its labels would give."""
    predictions, texts, labels = answers(n, rng, new_topic=new_topic, longer=longer)
    ids = [f"prediction-{number}" for number in range(n)]
    window = traffic_of(
        predictions,
        CLASSES,
        ids=ids,
        texts=texts if texts_kept else [None] * n,
        start=NOW,
        end=NOW + timedelta(minutes=n),
    )
    rows = zip(ids, window.predicted.tolist(), labels, predictions.confidence.tolist(), strict=True)
    return window, [outcome_of(*row) for row in rows]


def outcome_of(
    prediction_id: str,
    predicted: str,
    label: str,
    confidence: float = 0.9,
    *,
    source: LabelSource = LabelSource.GROUND_TRUTH,
    sampling_probability: float = 1.0,
    unit: str | None = None,
    predicted_at: datetime = NOW,
) -> Outcome:
    """One labelled answer."""
    return Outcome(
        prediction_id=prediction_id,
        model="support",
        version="v1",
        variant=Variant.PRODUCTION,
        rollout=None,
        step=-1,
        unit=prediction_id if unit is None else unit,
        predicted=predicted,
        label=label,
        confidence=confidence,
        source=source,
        sampling_probability=sampling_probability,
        predicted_at=predicted_at,
        labelled_at=predicted_at + timedelta(hours=1),
    )


def outcomes_of(correct: Sequence[bool], **options: object) -> list[Outcome]:
    """Answers that were right or wrong, one after the other."""
    return [
        outcome_of(f"prediction-{number}", "billing", "billing" if right else "delivery", **options)  # type: ignore[arg-type]
        for number, right in enumerate(correct)
    ]
