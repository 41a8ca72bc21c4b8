"""Logits and embeddings as the runtime that serves computes them, before any temperature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monitoring.core.runtime import ClassifierRuntime, Encoded


def raw_outputs(
    runtime: ClassifierRuntime, encoded: Sequence[Encoded], size: int, order: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (n, classes) and embeddings (n, d) of texts in the order given, before temperature.

    They are computed in batches of `size`, taken in `order`; texts of like length together if that is None.
    """
    rows = np.argsort([len(item) for item in encoded], kind="stable") if order is None else order
    batches = [runtime.raw([encoded[row] for row in rows[i : i + size]]) for i in range(0, len(rows), size)]
    logits, embeddings = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    back = np.argsort(rows)
    return logits[back], embeddings[back]
