from __future__ import annotations

import numpy as np
import pytest

from training.methods.head import fit_logistic


def test_the_head_is_at_the_minimum_of_its_objective(rng: np.random.Generator) -> None:
    features = rng.normal(size=(120, 6)).astype(np.float32)
    labels = rng.integers(0, 3, size=120)
    weights, bias = fit_logistic(features, labels, 3, inverse_l2=2.0)

    logits = features.astype(np.float64) @ weights.T + bias
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    residual = probabilities - np.eye(3)[labels]
    slope = 2.0 * residual.T @ features + weights
    assert np.abs(slope).max() < 0.01
    assert bias.sum() == pytest.approx(0.0, abs=1e-9)


def test_a_stronger_ridge_gives_smaller_weights(rng: np.random.Generator) -> None:
    features = rng.normal(size=(60, 4)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    loose, _ = fit_logistic(features, labels, 2, inverse_l2=100.0)
    tight, _ = fit_logistic(features, labels, 2, inverse_l2=0.1)
    assert np.abs(tight).max() < np.abs(loose).max() / 5


def test_a_class_without_rows_is_never_the_answer(rng: np.random.Generator) -> None:
    features = rng.normal(size=(60, 4)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    weights, bias = fit_logistic(features, labels, 3, inverse_l2=10.0)
    assert not ((features @ weights.T + bias).argmax(axis=1) == 2).any()
