"""Fine-tuning: from a base model and labelled texts to a classifier in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from tokenizers import Tokenizer

from training.classifier import Examples, SequenceClassifier, tokenise
from training.encoder import Base, load_encoder, load_tokenizer, token_limit
from training.methods import full, head, lora
from training.progress import Share
from training.recipe import Recipe


class Fit(Protocol):
    """One method: trains `model` in place."""

    def __call__(
        self,
        model: SequenceClassifier,
        train: Examples,
        validation: Examples,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
        report: Share,
    ) -> None: ...


METHODS: Mapping[str, Fit] = {"head": head.fit, "lora": lora.fit, "full": full.fit}


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with the labels that they ought to get."""

    texts: Sequence[str]
    labels: Sequence[str]


@dataclass(frozen=True)
class FineTuned:
    """A trained model on the CPU, in evaluation mode, with what it needs to read text."""

    model: SequenceClassifier
    tokenizer: Tokenizer
    max_tokens: int


def fine_tune(
    base: Base,
    train: LabelledTexts,
    validation: LabelledTexts,
    classes: Sequence[str],
    recipe: Recipe,
    *,
    seed: int,
    report: Share,
) -> FineTuned:
    """Train a classifier over `classes` as the recipe says; one seed gives the same weights on one machine's CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    encoder, tokenizer = load_encoder(base), load_tokenizer(base)
    max_tokens = token_limit(encoder, recipe.max_tokens)
    frozen = recipe.method == "head"
    dropout = 0.0 if frozen else recipe.dropout
    model = SequenceClassifier(encoder, len(classes), unit_length=frozen, dropout=dropout).to(device)
    number = {label: place for place, label in enumerate(classes)}

    def examples(part: LabelledTexts) -> Examples:
        labels = np.array([number[label] for label in part.labels], dtype=np.int64)
        return Examples(tokenise(tokenizer, part.texts, max_tokens), labels)

    METHODS[recipe.method](
        model, examples(train), examples(validation), recipe, seed=seed, device=device, report=report
    )
    return FineTuned(model.cpu().eval(), tokenizer, max_tokens)
