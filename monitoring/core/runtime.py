"""The one synchronous way to run a bundle: tokenise → session → signals.

Training builds baselines and gates with it, backtest replays with it, and the service only adds a queue and HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle
from monitoring.core.errors import BrokenBundle
from monitoring.core.signals import Predictions, Reference, read_signals


@dataclass(frozen=True)
class Encoded:
    """One tokenised text: its token ids, cut at the model's limit."""

    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


class ClassifierRuntime:
    """A bundle ready to answer. Sessions and tokenizer are safe to share between threads."""

    def __init__(self, bundle: Bundle, *, threads: int = 1, precision: str | None = None) -> None:
        """`threads` for one run; `precision` overrides the bundle's own, for measuring. Raises BrokenBundle."""
        self.bundle = bundle
        self.config = bundle.config
        name = f"model.{precision or bundle.config.precision}.onnx"
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._tokenizer = Tokenizer.from_file(str(bundle.path(bundles.TOKENIZER)))
            self._session = ort.InferenceSession(
                str(bundle.path(name)), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # both libraries raise bare Exceptions of their own
            raise BrokenBundle(f"{bundle.folder}: {name} or its tokenizer does not load: {error}") from error
        self._tokenizer.enable_truncation(self.config.max_tokens)
        self._tokenizer.no_padding()
        self.reference = Reference.load(bundle.path(bundles.REFERENCE))

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids, all below it."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokenise; the tokenizer runs in Rust and lets other threads go on."""
        return [Encoded(tuple(item.ids)) for item in self._tokenizer.encode_batch_fast(list(texts))]

    def run(self, batch: Sequence[Encoded]) -> Predictions:
        """Answer one batch as one model call."""
        logits, embeddings = self.raw(batch)
        tokens = [item.ids for item in batch]
        return read_signals(logits, embeddings, tokens, temperature=self.config.temperature, reference=self.reference)

    def raw(self, batch: Sequence[Encoded]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (n, classes) and embeddings (n, d) of one batch, before temperature, padded to its longest text."""
        longest = max(len(item) for item in batch)
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, item in enumerate(batch):
            ids[row, : len(item)] = item.ids
            mask[row, : len(item)] = 1
        logits, embeddings = self._session.run(["logits", "embedding"], {"input_ids": ids, "attention_mask": mask})
        return logits, embeddings

    def predict(self, texts: Sequence[str], *, max_batch: int | None = None) -> Predictions:
        """Answer many texts in batches of like length, in the order given."""
        encoded = self.encode(texts)
        size = max_batch or self.config.max_batch
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
        parts = [self.run([encoded[row] for row in order[i : i + size]]) for i in range(0, len(order), size)]
        return concatenate(parts, np.argsort(np.array(order), kind="stable"))


def concatenate(parts: Sequence[Predictions], order: NDArray[np.int64] | None = None) -> Predictions:
    """Batches put together, rows then taken in `order`."""
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in Predictions.__dataclass_fields__
    }
    if order is not None:
        joined = {name: values[order] for name, values in joined.items()}
    return Predictions(**joined)
