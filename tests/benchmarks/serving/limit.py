"""What the engine itself can do, without queue, log or HTTP; and whether its answers can be trusted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from monitoring.core.bundle import Bundle
from monitoring.core.runtime import ClassifierRuntime, Encoded

BATCHES = (1, 8, 32)
PROBED_SECONDS = 2.0
ALONE = 200
MIXED_BATCH = 8
FP32 = "fp32"


@dataclass(frozen=True)
class Trust:
    """`batch_invariance`: how much the likeliest label's probability moves by batchmates, mean and most;
    `label_agreement`: share of texts with the label that the model gives in fp32."""

    batch_invariance_mean: float
    batch_invariance: float
    label_agreement: float


class Limit:
    """As many one-thread sessions as cores, each on its share of the texts, in batches of like length."""

    def __init__(self, bundle: Bundle, texts: Sequence[str], *, threads: int, most_tokens: int) -> None:
        self._runtimes = [ClassifierRuntime(bundle) for _ in range(threads)]
        self._shares = [texts[number::threads] for number in range(threads)]
        self._most_tokens = most_tokens
        allowed = [size for size in BATCHES if size <= bundle.config.max_batch]
        self.by_batch = {size: self.measure(PROBED_SECONDS, size) for size in allowed}
        self.batch = max(self.by_batch, key=lambda size: self.by_batch[size])

    def measure(self, seconds: float, batch: int | None = None) -> float:
        """Texts a second, tokenised and answered, over at least so long; in batches of the best size unless said."""
        size, began = batch or self.batch, time.perf_counter()

        def work(number: int) -> int:
            done = 0
            while time.perf_counter() - began < seconds:
                done += self._once(self._runtimes[number], self._shares[number], size)
            return done

        with ThreadPoolExecutor(len(self._runtimes)) as pool:
            answered = sum(pool.map(work, range(len(self._runtimes))))
            return answered / (time.perf_counter() - began)

    def alone_ms(self) -> float:
        """Median of one text, tokenised and answered, with nothing else at work."""
        runtime, took = self._runtimes[0], []
        for text in self._shares[0][:ALONE]:
            began = time.perf_counter()
            runtime.raw(runtime.encode([text]))
            took.append(time.perf_counter() - began)
        return float(np.median(took)) * 1000

    def _once(self, runtime: ClassifierRuntime, texts: Sequence[str], size: int) -> int:
        for batch in in_batches(runtime.encode(texts), size, self._most_tokens):
            runtime.raw(batch)
        return len(texts)


def in_batches(encoded: Sequence[Encoded], size: int, most_tokens: int) -> Iterator[list[Encoded]]:
    """Of like length, at most so many texts, and so many tokens with padding, as the service has them."""
    batch: list[Encoded] = []
    for item in sorted(encoded, key=len):
        if batch and (len(batch) == size or len(item) * (len(batch) + 1) > most_tokens):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def trust(bundle: Bundle, texts: Sequence[str]) -> Trust:
    """Each text alone, and in a batch with texts of any length, in the order of arrival."""
    runtime = ClassifierRuntime(bundle)
    alone = runtime.predict(texts, max_batch=1)
    reference = ClassifierRuntime(bundle, precision=FP32).predict(texts, max_batch=1)
    size = min(MIXED_BATCH, bundle.config.max_batch)
    encoded = runtime.encode(texts)
    moved = np.zeros(len(texts))
    for start in range(0, len(texts), size):
        mixed = runtime.run(encoded[start : start + size])
        rows = np.arange(len(mixed))
        labels = alone.predicted[start : start + size]
        moved[start : start + size] = np.abs(
            mixed.probabilities[rows, labels] - alone.probabilities[start : start + size][rows, labels]
        )
    agreement = float((alone.predicted == reference.predicted).mean())
    return Trust(float(moved.mean()), float(moved.max()), agreement)
