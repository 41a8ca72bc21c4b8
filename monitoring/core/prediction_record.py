"""One row of the prediction log, as it is spooled. Apart from the table, so that serving never loads deltalake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.core.types import Variant


@dataclass(frozen=True)
class PredictionRecord:
    """One row of the log: one version's answer to one text, or its failure (`error` set, signals zero).

    `at_us`: microseconds since the epoch, UTC. `unit`: hashed assignment key. `step`, `share`: the rollout step and the
    candidate's share in force. `projected`: 32 numbers. `top_k`, `metadata`: JSON objects as text. `text`: as the
    policy allows.
    """

    prediction_id: str
    model: str
    version: str
    variant: Variant
    rollout: str | None
    step: int
    share: float
    unit: str
    at_us: int
    text: str | None
    predicted: str
    confidence: float
    entropy: float
    margin: float
    similarity: float
    rarity: float
    length: float
    projected: Sequence[float]
    top_k: str
    latency_ms: float
    error: str | None
    metadata: str

    def row(self) -> dict[str, Any]:
        """As it is spooled."""
        return vars(self)
