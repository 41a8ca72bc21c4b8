"""Did the loop close? The demo's figures, and the pure decision over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.demo.traffic import Answer

ONE_SIDED_95 = 1.645


@dataclass(frozen=True)
class Accuracy:
    """Correct answers of `n`; nan without any."""

    n: int
    correct: int

    @property
    def value(self) -> float:
        """The share of correct answers."""
        return self.correct / self.n if self.n else math.nan

    def __str__(self) -> str:
        return f"{self.value:.1%} of {self.n}" if self.n else "unknown"


@dataclass(frozen=True)
class Figures:
    """What the story measured. `detection_delay` in predictions after the first drifted one; None: not detected."""

    false_alarms: int
    detection_delay: int | None
    retrained: bool
    promoted: bool
    accuracy_steady: Accuracy
    accuracy_before: Accuracy
    accuracy_after: Accuracy
    failed_requests: int


def measure(answers: Sequence[Answer]) -> Accuracy:
    """Accuracy over answers whose truth the demo knows."""
    return Accuracy(len(answers), sum(answer.correct for answer in answers))


def why_not_closed(figures: Figures) -> str | None:
    """None where the loop really closed; else the first thing that is missing."""
    before, after = figures.accuracy_before, figures.accuracy_after
    checks = (
        (figures.false_alarms == 0, f"{figures.false_alarms} false alarms before the drift"),
        (figures.detection_delay is not None, "the drift was not detected"),
        (figures.retrained, "no retrained model passed its gates"),
        (figures.promoted, "the retrained model was not promoted"),
        (_better(after, before), f"accuracy on drifted traffic is not measurably better: {before}, then {after}"),
        (figures.failed_requests == 0, f"{figures.failed_requests} requests failed"),
    )
    return next((reason for passed, reason in checks if not passed), None)


def _better(after: Accuracy, before: Accuracy) -> bool:
    """Two-sample z test on independent messages, one-sided at 5 %."""
    if not after.n or not before.n:
        return False
    variance = sum(side.value * (1 - side.value) / side.n for side in (after, before))
    return after.value - before.value > ONE_SIDED_95 * math.sqrt(variance)
