"""Does it matter? Change that costs no accuracy is worth a notice; change that does is worth a retraining.

After Podkopaev & Ramdas, "Tracking the risk of a deployed model and detecting harmful distribution shifts" (ICLR 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from monitoring.core.types import Interval


class Harm(StrEnum):
    """Whether accuracy was lost beyond what is tolerated."""

    SHOWN = "shown"
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class HarmFinding:
    """The answer, and what it rests on."""

    harm: Harm
    reason: str


@dataclass(frozen=True)
class Estimate:
    """Accuracy estimated without labels, and whether it may be believed."""

    accuracy: Interval
    trustworthy: bool
    note: str


def judge_harm(
    *,
    baseline_accuracy: float,
    tolerated_loss: float,
    estimate: Estimate | None,
    realised: Interval | None,
    new_classes: Mapping[str, int] = MappingProxyType({}),
) -> HarmFinding:
    """Weigh labels first, then classes that the model cannot know, then the label-free estimate.

    `realised`: accuracy by outcome-blind labels, with a confidence sequence. `new_classes`: labels that the model lacks
    and has been shown often enough, with their counts.
    """
    floor = baseline_accuracy - tolerated_loss
    if realised is not None:
        labelled = f"{realised.value:.1%} by labels, {baseline_accuracy:.1%} at the baseline"
        if realised.value < floor and realised.high < baseline_accuracy:
            return HarmFinding(Harm.SHOWN, f"accuracy fell beyond the {tolerated_loss:.1%} tolerated: {labelled}")
        if realised.low > floor:
            return HarmFinding(Harm.NONE, f"labels show no loss beyond the {tolerated_loss:.1%} tolerated: {labelled}")
    if new_classes:
        named = ", ".join(f"{name} ({count})" for name, count in new_classes.items())
        return HarmFinding(Harm.SHOWN, f"the labels show classes that the model does not know: {named}")
    if estimate is None:
        return HarmFinding(Harm.UNKNOWN, "neither a whole window nor enough labels yet")
    value = f"{estimate.accuracy.value:.1%}" if math.isfinite(estimate.accuracy.value) else "none"
    estimated = f"{value} estimated, {baseline_accuracy:.1%} at the baseline"
    if estimate.accuracy.value < floor and estimate.accuracy.high < baseline_accuracy:
        return HarmFinding(Harm.SHOWN, f"accuracy fell beyond the {tolerated_loss:.1%} tolerated: {estimated}")
    if estimate.trustworthy and estimate.accuracy.low > floor:
        return HarmFinding(Harm.NONE, f"no loss beyond the {tolerated_loss:.1%} tolerated: {estimated}")
    return HarmFinding(Harm.UNKNOWN, f"a loss can be neither shown nor ruled out: {estimated}; {estimate.note}")
