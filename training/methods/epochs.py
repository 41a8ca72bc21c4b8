"""The training loop of the methods that go through the data more than once."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from monitoring.core.errors import InvalidInput
from monitoring.stats.calibration import negative_log_likelihood, softmax
from training.classifier import Examples, SequenceClassifier, infer, length_grouped, pad
from training.progress import Share
from training.recipe import Recipe

LARGEST_GRADIENT = 1.0


def train_epochs(
    model: SequenceClassifier,
    train: Examples,
    validation: Examples,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    report: Share,
) -> None:
    """Train what requires a gradient; stop when the validation NLL no longer falls; leave the best epoch's weights.

    The learning rate rises over the warm-up and then falls linearly to zero. On a GPU it computes in bfloat16.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    learnt = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(
        [weight for _, weight in learnt], lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    per_epoch = math.ceil(len(train) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_up_then_fall(recipe, per_epoch * recipe.epochs))
    best_loss, best_epoch, best_weights = math.inf, 0, {}
    for epoch in range(recipe.epochs):
        model.train()
        for number, rows in enumerate(length_grouped(train.tokens, recipe.batch_size, rng), start=1):
            _step(model, train, rows.tolist(), device)
            nn.utils.clip_grad_norm_([weight for _, weight in learnt], LARGEST_GRADIENT)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            report((epoch + number / per_epoch) / recipe.epochs)
        loss = _validation_loss(model, validation, device)
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best_weights = {name: copy.deepcopy(weight.data) for name, weight in learnt}
        elif epoch - best_epoch >= recipe.patience:
            break
    if not best_weights:
        raise InvalidInput("training diverged: give a lower learning rate", field="learning_rate")
    for name, weight in learnt:
        weight.data = best_weights[name]
    model.eval()


def _step(model: SequenceClassifier, train: Examples, rows: list[int], device: torch.device) -> None:
    inputs = pad([train.tokens[row] for row in rows], device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        logits, _ = model(*inputs)
    loss = nn.functional.cross_entropy(logits.float(), torch.from_numpy(train.labels[rows]).to(device))
    loss.backward()  # type: ignore[no-untyped-call]


def _validation_loss(model: SequenceClassifier, validation: Examples, device: torch.device) -> float:
    logits, _ = infer(model, validation.tokens, device)
    return negative_log_likelihood(softmax(logits), validation.labels)


def _warm_up_then_fall(recipe: Recipe, steps: int) -> Callable[[int], float]:
    rising = max(1, round(recipe.warmup * steps))
    return lambda step: min((step + 1) / rising, (steps - step) / max(1, steps - rising))
