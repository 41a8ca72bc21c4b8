"""A bundle in the making: what is learnt and frozen through the very runtime that will serve it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monitoring.baseline import build_baseline
from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle, BundleConfig
from monitoring.core.runtime import ClassifierRuntime, concatenate
from monitoring.core.signals import Predictions, Reference
from monitoring.stats.calibration import fit_temperature
from training.data import HOLDOUT, TRAIN, VALIDATION
from training.logits import raw_outputs
from training.precision import Choice
from training.snapshot import RECENT_HOLDOUT, RECENT_UNLABELLED, Part, Snapshot

if TYPE_CHECKING:
    from training.finetune import FineTuned  # what imports torch stays out of a recalibration

FP32 = "fp32"
MAX_REFERENCE_ROWS = 2_000
MIN_BASELINE_ROWS = 100


def first_config(model: str, snapshot: Snapshot, tuned: FineTuned, lineage: Mapping[str, Any]) -> BundleConfig:
    """The configuration before anything is calibrated: fp32, temperature 1."""
    return BundleConfig(
        model=model,
        labels=snapshot.classes,
        temperature=1.0,
        max_tokens=tuned.max_tokens,
        precision=FP32,
        max_batch=8,
        embedding_size=tuned.model.classifier.in_features,
        lineage=lineage,
    )


def calibrate(draft: Bundle, snapshot: Snapshot, choice: Choice | None = None) -> Bundle:
    """Fit the temperature to the validation rows, as the chosen precision (fp32 before one is chosen) scores them."""
    if choice is not None:
        served = replace(draft.config, precision=choice.precision, max_batch=choice.max_batch)
        draft = replace(draft, config=served)
    runtime = ClassifierRuntime(draft)
    validation = snapshot.part(VALIDATION)
    number = {label: place for place, label in enumerate(snapshot.classes)}
    labels = np.array([number[label] for label in validation.labels if label is not None])
    logits = raw_outputs(runtime, runtime.encode(validation.texts), draft.config.max_batch)[0]
    temperature = fit_temperature(*with_one_doubt(logits, labels))
    return replace(draft, config=replace(draft.config, temperature=temperature))


def refit_temperature(
    logits: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float64], temperature: float
) -> float:
    """The temperature that makes recent labels (n,) likeliest; `temperature`, as it is, where none does better.

    `weights`: inverse sampling probabilities; the doubtful row weighs as much as an average one.
    """
    doubted = with_one_doubt(logits / np.float32(temperature), labels)
    factor: float = fit_temperature(*doubted, np.append(weights / weights.mean(), 1.0))
    return temperature * factor


def with_one_doubt(
    logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The rows, and the least certain of them once more, as if it had been wrong.

    Without a single mistake the best temperature is zero and every answer certain; among real mistakes, one more on the
    verge changes nothing.
    """
    ranked = np.argsort(logits, axis=1)
    rows = np.arange(len(logits))
    least = int((logits[rows, ranked[:, -1]] - logits[rows, ranked[:, -2]]).argmin())
    return np.vstack([logits, logits[least]]), np.append(labels, ranked[least, -2])


def learn_reference(draft: Bundle, snapshot: Snapshot, *, seed: int) -> None:
    """Write what turns embeddings into signals, learnt from the training rows."""
    train = _even_sample(snapshot.part(TRAIN), max(10, MAX_REFERENCE_ROWS // len(snapshot.classes)), seed)
    number = {label: place for place, label in enumerate(snapshot.classes)}
    labels = np.array([number[label] for label in train.labels if label is not None])
    runtime = ClassifierRuntime(draft)
    encoded = runtime.encode(train.texts)
    embeddings = raw_outputs(runtime, encoded, draft.config.max_batch)[1]
    tokens = [item.ids for item in encoded]
    Reference.fit(embeddings, labels, tokens, classes=len(snapshot.classes), vocabulary=runtime.vocabulary_size).save(
        draft.path(bundles.REFERENCE)
    )


def _even_sample(part: Part, per_class: int, seed: int) -> Part:
    """At most so many rows of each class, at random."""
    taken: Counter[str | None] = Counter()
    rows = []
    for row in np.random.default_rng(seed).permutation(len(part)):
        taken[part.labels[row]] += 1
        if taken[part.labels[row]] <= per_class:
            rows.append(row)
    return part.take(np.array(rows))


def freeze_baseline(
    draft: Bundle, snapshot: Snapshot, held_out: Part, predictions: Predictions, *, validation: Predictions, seed: int
) -> None:
    """Write what traffic will be compared with: the held-out rows of the regime that the model will meet."""
    rows = np.flatnonzero(baseline_rows(held_out))
    part = held_out.take(rows)
    build_baseline(
        predictions=concatenate([predictions], rows),
        texts=part.texts,
        labels=part.labels,
        classes=snapshot.classes,
        edges_from=validation,
        vocabulary=snapshot.part(TRAIN).texts,
        seed=seed,
    ).save(draft.path(bundles.BASELINE))


def baseline_rows(held_out: Part) -> NDArray[np.bool_]:
    """Which rows (n,) make the baseline: the recent ones, joined by the old hold-out where they are too few."""
    recent = held_out.within(RECENT_HOLDOUT, RECENT_UNLABELLED)
    labelled = held_out.within(RECENT_HOLDOUT)
    if recent.sum() >= MIN_BASELINE_ROWS and labelled.any():
        return recent
    return recent | held_out.within(HOLDOUT)
