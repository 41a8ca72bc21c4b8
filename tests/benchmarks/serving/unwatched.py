"""`leeway` with all that watches taken out of the serving process: what it costs is the difference to the real one.

python -m tests.benchmarks.serving.unwatched serve --port PORT
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.core import runtime
from monitoring.core.cli import main
from monitoring.core.signals import PROJECTED, Predictions
from monitoring.stats.calibration import softmax
from service.engine.recorder import Recorder
from service.metrics import Metrics

COUNTED = ("request", "tokenized", "batch", "recorded", "failed", "shadow_answered", "shadow_dropped")


def nothing(*_: Any, **__: Any) -> None:
    """Watch nothing."""


def answer_alone(
    logits: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    tokens: Sequence[Sequence[int]],
    *,
    temperature: float,
    **_: Any,
) -> Predictions:
    """Labels and probabilities, and no signal."""
    shares = softmax(logits, temperature)
    best, zero = shares.max(axis=1), np.zeros(len(shares))
    projected = np.zeros((len(shares), PROJECTED), np.float16)
    return Predictions(shares, shares.argmax(axis=1), best, zero, zero, zero, zero, zero, projected)


if __name__ == "__main__":
    runtime.read_signals = answer_alone
    Recorder.record = nothing  # type: ignore[method-assign]
    for name in COUNTED:
        setattr(Metrics, name, nothing)
    main()
