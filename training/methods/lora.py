"""LoRA: low-rank adapters beside every linear layer, merged into the weights when done (Hu et al., 2021)."""

from __future__ import annotations

import warnings

import torch

from training.classifier import Examples, SequenceClassifier
from training.methods.epochs import train_epochs
from training.progress import Share
from training.recipe import Recipe


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
    """Train the adapters and the head; the merged model is as fast as the base."""
    from peft import LoraConfig, get_peft_model  # takes seconds to import, and only this method needs it

    torch.manual_seed(seed)
    adapters = LoraConfig(
        r=recipe.lora_rank, lora_alpha=2 * recipe.lora_rank, lora_dropout=recipe.dropout, target_modules="all-linear"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that will be retired
        adapted = get_peft_model(model.encoder, adapters)
    model.encoder = adapted.to(device)
    train_epochs(model, train, validation, recipe, seed=seed, device=device, report=report)
    model.encoder = adapted.merge_and_unload(safe_merge=True)
