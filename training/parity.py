"""Proof on the files as they are read back: they answer as torch does, whatever shares the batch, and how fast."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from monitoring.core.bundle import Bundle
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.settings import GateSettings
from monitoring.stats.calibration import softmax
from training.classifier import infer, tokenise
from training.finetune import FineTuned
from training.logits import raw_outputs
from training.precision import PRECISIONS, Choice, Measurement, choose_precision

BATCHES = (32, 8, 2)
MIXED_TEXTS = 128
TIMED_BATCH = 8
TIMED_ROUNDS = 3
TIMED_TEXTS = 64
UNKNOWN = -1


@dataclass(frozen=True)
class Expected:
    """Class numbers of the sampled texts, (n,): as torch answers, and the true ones, UNKNOWN where no label is."""

    by_torch: NDArray[np.int64]
    truth: NDArray[np.int64]

    def loss(self, said: NDArray[np.int64]) -> float:
        """Share of the labelled texts that torch gets right beyond those that `said` (n,) does; 0 without labels."""
        known = self.truth != UNKNOWN
        lost = (self.by_torch == self.truth)[known].astype(int) - (said == self.truth)[known]
        return float(lost.mean()) if known.any() else 0.0


def measure_precisions(
    draft: Bundle,
    tuned: FineTuned,
    texts: Sequence[str],
    labels: Sequence[str | None],
    limits: GateSettings,
    *,
    seed: int,
) -> tuple[Choice, tuple[Measurement, ...]]:
    """Compare all precisions, read from disk, with torch on `texts` and their true `labels`; choose one and say why.

    Each is offered at the largest batch that keeps its scores independent of the batch, one text if need be.
    """
    logits = infer(tuned.model, tokenise(tuned.tokenizer, texts, tuned.max_tokens), torch.device("cpu"))[0]
    expected = Expected(logits.argmax(axis=1), _truth(labels, draft.config.labels))
    order = np.random.default_rng(seed).permutation(min(len(texts), MIXED_TEXTS))
    runtimes = [ClassifierRuntime(draft, precision=name) for name in PRECISIONS]
    offers = [
        _offer(runtime, name, texts, expected, order, limits)
        for runtime, name in zip(runtimes, PRECISIONS, strict=True)
    ]
    served = [(runtime, offer.max_batch) for runtime, offer in zip(runtimes, offers, strict=True)]
    measured = tuple(
        replace(offer, texts_per_second=speed)
        for offer, speed in zip(offers, texts_per_second(served, texts), strict=True)
    )
    return choose_precision(measured, limits), measured


def _offer(
    runtime: ClassifierRuntime,
    precision: str,
    texts: Sequence[str],
    expected: Expected,
    order: NDArray[np.int64],
    limits: GateSettings,
) -> Measurement:
    """The largest batch that keeps scores independent of it; its speed is measured later, beside the others."""
    encoded = runtime.encode(texts)
    alone = raw_outputs(runtime, encoded, 1)[0]
    said = alone.argmax(axis=1)
    agreement, loss = float((said == expected.by_torch).mean()), expected.loss(said)
    for size in BATCHES:
        together, _ = raw_outputs(runtime, encoded[:MIXED_TEXTS], size, order)
        shift = top_shift(alone[:MIXED_TEXTS], together, runtime.config.temperature)
        if shift <= limits.max_batch_dependence:
            return Measurement(precision, size, agreement, loss, shift, texts_per_second=0.0)
    return Measurement(precision, 1, agreement, loss, 0.0, texts_per_second=0.0)


def _truth(labels: Sequence[str | None], classes: Sequence[str]) -> NDArray[np.int64]:
    number = {label: place for place, label in enumerate(classes)}
    return np.array([UNKNOWN if label is None else number.get(label, UNKNOWN) for label in labels], dtype=np.int64)


def top_shift(alone: NDArray[np.float32], together: NDArray[np.float32], temperature: float) -> float:
    """The most by which the probability of a text's first label, as answered alone, changes in company."""
    first = np.arange(len(alone)), alone.argmax(axis=1)
    return float(np.abs(softmax(alone, temperature)[first] - softmax(together, temperature)[first]).max())


def texts_per_second(served: Sequence[tuple[ClassifierRuntime, int]], texts: Sequence[str]) -> list[float]:
    """Speed of each runtime in batches as it serves (8 at most), in turns, so that other load hits all alike."""
    sample = texts[:TIMED_TEXTS]
    best = [np.inf] * len(served)
    encoded = [runtime.encode(sample) for runtime, _ in served]
    for _ in range(TIMED_ROUNDS):
        for place, (runtime, size) in enumerate(served):
            began = time.perf_counter()
            raw_outputs(runtime, encoded[place], min(size, TIMED_BATCH))
            best[place] = min(best[place], time.perf_counter() - began)
    return [len(sample) / seconds for seconds in best]
