"""A logistic head on the frozen encoder: the first rung, which the others must beat to earn their cost."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from monitoring.core.signals import unit_length
from training.classifier import Examples, SequenceClassifier, infer
from training.progress import Share
from training.recipe import Recipe

Floats = NDArray[np.float64]


def fit(
    model: SequenceClassifier,
    train: Examples,
    validation: Examples,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    report: Share,
) -> None:
    """Embed the training texts once and fit the head by L-BFGS. Convex: the same data give the same head."""
    _, embeddings = infer(model, train.tokens, device, report)
    weights, bias = fit_logistic(
        unit_length(embeddings), train.labels, model.classifier.out_features, inverse_l2=recipe.inverse_l2
    )
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(weights))
        model.classifier.bias.copy_(torch.from_numpy(bias))


def fit_logistic(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, *, inverse_l2: float
) -> tuple[Floats, Floats]:
    """Multinomial logistic regression of `labels` (n,) on `features` (n, d): weights (classes, d) and bias (classes,).

    Minimises inverse_l2 · Σ NLL + ½ ‖weights‖²; the bias is free, and its mean fixed at zero.
    """
    n, size = features.shape
    table = features.astype(np.float64)
    truth = np.zeros((n, classes))
    truth[np.arange(n), labels] = 1.0

    def objective(flat: Floats) -> tuple[float, Floats]:
        weights, bias = flat[: classes * size].reshape(classes, size), flat[classes * size :]
        logits = table @ weights.T + bias
        log_total = logsumexp(logits, axis=1, keepdims=True)
        residual = np.exp(logits - log_total) - truth
        loss = float((log_total[:, 0] - (logits * truth).sum(axis=1)).mean())
        # divided by n · inverse_l2, which leaves the minimum where it is and its scale at one
        ridge = 1.0 / (n * inverse_l2)
        slope = np.concatenate([(residual.T @ table / n + ridge * weights).ravel(), residual.mean(axis=0)])
        return loss + 0.5 * ridge * float((weights**2).sum()), slope

    start = np.zeros(classes * (size + 1))
    best = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-5}).x
    bias = best[classes * size :]
    return best[: classes * size].reshape(classes, size), bias - bias.mean()
