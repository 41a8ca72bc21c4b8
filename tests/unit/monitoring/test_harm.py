"""Whether change matters: labels before unknown classes before the estimate."""

from __future__ import annotations

import pytest

from monitoring.core.types import Interval
from monitoring.harm import Estimate, Harm, judge_harm


def estimate(value: float, low: float, high: float, *, trustworthy: bool = True) -> Estimate:
    return Estimate(Interval(value, low, high), trustworthy, "as the estimator says")


@pytest.mark.parametrize(
    ("realised", "new_classes", "estimated", "harm", "reason"),
    [
        (None, {}, None, Harm.UNKNOWN, "neither a whole window nor enough labels"),
        (None, {}, estimate(0.80, 0.7, 0.88), Harm.SHOWN, "80.0% estimated, 90.0% at the baseline"),
        (None, {}, estimate(0.80, 0.3, 0.88, trustworthy=False), Harm.SHOWN, "80.0% estimated"),
        (None, {}, estimate(0.80, 0.3, 1.0, trustworthy=False), Harm.UNKNOWN, "80.0% estimated"),
        (None, {}, estimate(0.90, 0.88, 0.92), Harm.NONE, "no loss beyond the 3.0% tolerated"),
        (None, {}, estimate(0.90, 0.88, 0.92, trustworthy=False), Harm.UNKNOWN, "as the estimator says"),
        (None, {}, estimate(0.89, 0.86, 0.92), Harm.UNKNOWN, "neither shown nor ruled out"),
        (Interval(0.80, 0.7, 0.89), {}, estimate(0.90, 0.88, 0.92), Harm.SHOWN, "80.0% by labels"),
        (Interval(0.80, 0.6, 0.95), {}, estimate(0.90, 0.88, 0.92), Harm.NONE, "90.0% estimated"),
        (Interval(0.90, 0.88, 0.92), {}, estimate(0.80, 0.7, 0.85), Harm.NONE, "90.0% by labels"),
        (Interval(0.90, 0.88, 0.92), {"zoo": 20}, None, Harm.NONE, "90.0% by labels"),
        (Interval(0.88, 0.80, 0.93), {"zoo": 20}, None, Harm.SHOWN, "does not know: zoo (20)"),
    ],
)
def test_the_stronger_evidence_decides(
    realised: Interval | None, new_classes: dict[str, int], estimated: Estimate | None, harm: Harm, reason: str
) -> None:
    finding = judge_harm(
        baseline_accuracy=0.9, tolerated_loss=0.03, estimate=estimated, realised=realised, new_classes=new_classes
    )
    assert finding.harm is harm
    assert reason in finding.reason
