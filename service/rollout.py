"""The rollout's decisions: pure, from a reading to a step with a named reason.

Shadow → A/B steps → promotion. Proven harm or a tripped guardrail aborts; a step that reaches no verdict in time pauses
and asks a person; missing data never promotes.

A recalibration gives the champion's labels, so no A/B test could ever tell the two apart. Its gate has shown what it is
for; shadow shows that it serves, soundly and with the same labels; then it is promoted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitoring.core.settings import RolloutSettings
from monitoring.core.types import Rollout, Stage
from monitoring.stats.comparison import Comparison
from service.analysis import Reading

SAMPLE_RATIO_ALPHA = 0.001


class Step(StrEnum):
    """What the controller should do next."""

    HOLD = "hold"
    ADVANCE = "advance"
    PROMOTE = "promote"
    ABORT = "abort"
    PAUSE = "pause"


@dataclass(frozen=True)
class Decision:
    """A step and why; `index` and `share` of the A/B step to enter when advancing."""

    step: Step
    reason: str
    index: int = 0
    share: float = 0.0


def decide(
    rollout: Rollout,
    reading: Reading,
    *,
    settings: RolloutSettings,
    now: datetime,
    recalibration: str | None = None,
) -> Decision:
    """What to do with a running rollout, given what is known.

    `recalibration`: what its gate proved, where the candidate is the champion with another temperature.
    """
    for name, guardrail in (("errors", reading.errors), ("latency", reading.latency)):
        if guardrail is not None and guardrail.verdict == "worse":
            return Decision(Step.ABORT, f"guardrail {name}: the candidate is proven worse ({_difference(guardrail)})")
    if reading.accuracy.verdict == "worse":
        return Decision(Step.ABORT, f"the candidate is proven less accurate: {_difference(reading.accuracy)}")
    if reading.log_e_sample_ratio >= math.log(1 / SAMPLE_RATIO_ALPHA):
        return Decision(Step.PAUSE, "sample ratio mismatch: units did not arrive as assigned; look for lost requests")
    if rollout.stage is not Stage.SHADOW:
        step = _split_step(rollout, reading, settings)
    elif recalibration is None:
        step = _shadow_step(reading, settings)
    else:
        step = _recalibration_step(reading, recalibration, settings)
    if step.step is Step.HOLD and now - rollout.step_started_at > timedelta(hours=settings.max_step_hours):
        return Decision(Step.PAUSE, f"no verdict within {settings.max_step_hours:g} h: {step.reason}")
    return step


def _shadow_step(reading: Reading, settings: RolloutSettings) -> Decision:
    compared = reading.accuracy
    if compared.n < settings.shadow_min_units:
        return Decision(Step.HOLD, f"shadow: {compared.n} of {settings.shadow_min_units} labelled units")
    if compared.verdict == "better" or compared.difference >= -settings.margin:
        share = settings.steps[0]
        reason = f"shadow: {_difference(compared)} on {compared.n} units; {share:.0%} of the traffic next"
        return Decision(Step.ADVANCE, reason, 0, share)
    return Decision(Step.HOLD, f"shadow: not better so far, {_difference(compared)}")


def _recalibration_step(reading: Reading, proof: str, settings: RolloutSettings) -> Decision:
    both, enough = reading.agreement, settings.shadow_min_units
    if both is not None and both.differing:
        reason = (
            f"shadow: {both.differing} of {both.predictions} labels differ from the champion's, though only the "
            "temperature should: look at what serves, or at ties that batchmates tip"
        )
        return Decision(Step.PAUSE, reason)
    if both is None or both.units < enough:
        seen = 0 if both is None else both.units
        return Decision(Step.HOLD, f"shadow: {seen} of {enough} labelled units answered by both versions")
    if reading.errors is None or reading.errors.n < enough:
        shown = 0 if reading.errors is None else reading.errors.n
        return Decision(Step.HOLD, f"shadow: {shown} of {enough} units whose copies tell what failed")
    if not reading.errors.difference >= -settings.guardrail_margin:
        return Decision(Step.HOLD, f"shadow: more failed than the champion's so far, {_difference(reading.errors)}")
    reason = (
        f"recalibration: all {both.predictions} labels of {both.units} shadow units are the champion's, and no more "
        f"failed; its gate had shown {proof}"
    )
    return Decision(Step.PROMOTE, reason)


def _split_step(rollout: Rollout, reading: Reading, settings: RolloutSettings) -> Decision:
    compared = reading.accuracy
    enough = min(reading.step_candidates, reading.step_champions)
    if enough < settings.step_min_units:
        return Decision(
            Step.HOLD,
            f"{rollout.share:.0%} of the traffic: {reading.step_candidates} candidate and {reading.step_champions} "
            f"champion units labelled, {settings.step_min_units} of each needed",
        )
    larger = [share for share in settings.steps if share > rollout.share]  # settings may have changed since it began
    if larger:
        reason = f"no harm at {rollout.share:.0%}: {_difference(compared)}; {larger[0]:.0%} next"
        return Decision(Step.ADVANCE, reason, rollout.step + 1, larger[0])
    if compared.verdict == "better":
        claim = "better than the champion" if settings.margin == 0 else f"no worse by more than {settings.margin:.1%}"
        return Decision(Step.PROMOTE, f"proven {claim}: {_difference(compared)}")
    return Decision(Step.HOLD, f"{rollout.share:.0%} of the traffic: not proven yet, {_difference(compared)}")


def _difference(compared: Comparison) -> str:
    return f"{compared.difference:+.1%} [{compared.low:+.1%}, {compared.high:+.1%}]"
