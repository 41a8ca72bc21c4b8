"""Which precision serves: the fastest whose answers are the model's own and do not depend on who shares the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.core.settings import GateSettings

FP32, DYNAMIC, STATIC, MIXED = "fp32", "int8", "int8-static", "int8-mixed"
"""As torch computes; int8 by each batch's range; int8 by frozen ranges; the same with down-projections in fp32."""
PRECISIONS = (FP32, STATIC, MIXED, DYNAMIC)


@dataclass(frozen=True)
class Measurement:
    """One way to serve the model.

    `agreement`: share of labels as torch gives them. `accuracy_loss`: what it gets right less often than torch does, as
    a share of the same labelled texts. `dependence`: the most that batchmates move a first probability,
    in batches of up to `max_batch`. `texts_per_second`: of one thread.
    """

    precision: str
    max_batch: int
    agreement: float
    accuracy_loss: float
    dependence: float
    texts_per_second: float


@dataclass(frozen=True)
class Choice:
    """The measurement that was chosen, and why."""

    precision: str
    max_batch: int
    agreement: float
    accuracy_loss: float
    dependence: float
    texts_per_second: float
    reason: str


def choose_precision(measurements: Sequence[Measurement], limits: GateSettings) -> Choice:
    """The fastest admissible one; where none is, the one that agrees best, whose gates will then fail."""
    faults = {measured: _fault(measured, limits) for measured in measurements}
    admissible = [measured for measured, fault in faults.items() if fault is None]
    others = "; ".join(f"{describe(measured)} {fault}" for measured, fault in faults.items() if fault is not None)
    if not admissible:
        best = max(measurements, key=lambda measured: (measured.agreement, -measured.dependence))
        return Choice(**vars(best), reason=f"no precision is admissible: {others}")
    best = max(admissible, key=lambda measured: measured.texts_per_second)
    slower = [f"{describe(other)} makes {other.texts_per_second:.0f}" for other in admissible if other is not best]
    reason = f"{describe(best)} makes {best.texts_per_second:.0f} texts/s on one thread"
    return Choice(**vars(best), reason="; ".join(filter(None, [reason, *slower, others])))


def describe(served: Measurement | Choice) -> str:
    """How people read it: `int8, one text at a time`."""
    batches = "one text at a time" if served.max_batch == 1 else f"batches of {served.max_batch}"
    return f"{served.precision}, {batches}"


def _fault(measured: Measurement, limits: GateSettings) -> str | None:
    if not measured.agreement >= limits.min_agreement:
        return f"agrees with torch on {measured.agreement:.2%} of the labels only"
    if not measured.accuracy_loss <= limits.max_accuracy_loss:
        return f"gets {measured.accuracy_loss:.2%} more of the labels wrong than torch"
    if not measured.dependence <= limits.max_batch_dependence:
        return f"moves a probability by up to {measured.dependence:.3f} with its batch"
    return None
