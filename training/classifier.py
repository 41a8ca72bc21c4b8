"""The classifier that every method trains, and how texts are put through it in torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from training.progress import Share

Tokens = Sequence[int]
INFERENCE_BATCH = 32
LENGTH_POOL = 32


class SequenceClassifier(nn.Module):
    """An encoder, mean pooling, and a linear head; gives logits (n, classes) and the pooled embedding (n, d).

    Mean pooling beats the first token's vector on sentence encoders, whose pooler was never tuned.
    """

    def __init__(self, encoder: Any, classes: int, *, unit_length: bool, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.unit_length = unit_length
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.config.hidden_size, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Both inputs (n, tokens) int64; padding has mask 0."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        embedding = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        features = nn.functional.normalize(embedding) if self.unit_length else embedding
        return self.classifier(self.dropout(features)), embedding


@dataclass(frozen=True)
class Examples:
    """Tokenised texts with their class numbers (n,)."""

    tokens: Sequence[Tokens]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tokens)


def tokenise(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> list[Tokens]:
    """Token ids as the serving runtime makes them: cut at `max_tokens`, not padded."""
    tokenizer.enable_truncation(max_tokens)
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def pad(rows: Sequence[Tokens], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask, (n, longest) each."""
    longest = max(len(row) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return ids.to(device), mask.to(device)


def length_grouped(tokens: Sequence[Tokens], size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Row numbers of shuffled batches whose texts are of like length: padding is what costs."""
    shuffled = rng.permutation(len(tokens))
    pool = size * LENGTH_POOL
    batches = []
    for start in range(0, len(shuffled), pool):
        rows = sorted(shuffled[start : start + pool], key=lambda row: len(tokens[row]))
        batches += [np.array(rows[i : i + size]) for i in range(0, len(rows), size)]
    for place in rng.permutation(len(batches)):
        yield batches[place]


@torch.inference_mode()
def infer(
    model: SequenceClassifier,
    tokens: Sequence[Tokens],
    device: torch.device,
    report: Share = lambda share: None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (n, classes) and embeddings (n, d) of all texts, in order, the model in evaluation mode."""
    model.eval()
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    logits = np.empty((len(tokens), model.classifier.out_features), dtype=np.float32)
    embeddings = np.empty((len(tokens), model.classifier.in_features), dtype=np.float32)
    for start in range(0, len(order), INFERENCE_BATCH):
        rows = order[start : start + INFERENCE_BATCH]
        batch_logits, batch_embeddings = model(*pad([tokens[row] for row in rows], device))
        logits[rows] = batch_logits.float().cpu().numpy()
        embeddings[rows] = batch_embeddings.float().cpu().numpy()
        report((start + len(rows)) / len(order))
    return logits, embeddings
