"""Which declared slices lost accuracy, by outcome-blind labels.

A slice may always have been harder than the rest, and no hold-out tells by how much: so a slice is compared with its
own past in this reign (`stats.rate_change`). The level is split evenly over the slices that may be judged.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from monitoring.core.corrections import placed_bets
from monitoring.core.types import Interval, Outcome
from monitoring.slices import MAX_SLICES, family_size
from monitoring.stats.calibration import wilson_interval
from monitoring.stats.rate_change import likeliest_change, log_evidence_of_change

LEAST_LABELS = 20


@dataclass(frozen=True)
class SliceAccuracy:
    """What labels say of one slice.

    `labelled`: its labelled clients, each once a day; `accuracy`: of those since the likeliest moment of a change,
    `since`, with its 95 % interval; `before`: of those earlier. `log_e`: evidence of a change, less the logarithm of
    the number of slices that share the level; `lost`: the change is a loss of more than is tolerated.
    """

    slice: str
    labelled: int
    accuracy: Interval
    before: float
    since: datetime
    log_e: float
    lost: bool

    def proves_loss(self, alpha: float) -> bool:
        """Whether it holds at level `alpha` for all slices together."""
        return self.lost and self.log_e >= math.log(1.0 / alpha)


def slice_accuracies(
    blind: Sequence[Outcome], declared: Sequence[str], *, tolerated_loss: float
) -> tuple[SliceAccuracy, ...]:
    """The slices of `blind` outcomes (in order of labelling) that have 20 bets (`placed_bets`), the surest loss first.

    Of a key's values the first ones to gather so many are taken, 50 slices in all: a choice blind to what was right.
    """
    by_slice: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in blind:
        for name in outcome.slices:
            by_slice[name].append(outcome)
    bets = {
        name: placed_bets(of) for name, of in by_slice.items() if name in declared or name.partition("=")[0] in declared
    }
    enough = [name for name, placed in bets.items() if len(placed) >= LEAST_LABELS]
    chosen = sorted(enough, key=lambda name: bets[name][LEAST_LABELS - 1].labelled_at)
    family = family_size(declared)
    found = [_judge(name, bets[name], family, tolerated_loss) for name in chosen[:MAX_SLICES]]
    return tuple(sorted(found, key=lambda one: (not one.lost, -one.log_e)))


def _judge(name: str, bets: Sequence[Outcome], family: int, tolerated_loss: float) -> SliceAccuracy:
    errors = np.array([float(not outcome.correct) for outcome in bets])
    probabilities = np.array([outcome.sampling_probability for outcome in bets])
    change = likeliest_change(errors, probabilities)
    weights = 1.0 / probabilities
    now = 1.0 - float(np.average(errors[change:], weights=weights[change:]))
    before = 1.0 - float(np.average(errors[:change], weights=weights[:change]))
    effective = float(weights[change:].sum() ** 2 / np.square(weights[change:]).sum())
    return SliceAccuracy(
        slice=name,
        labelled=len(bets),
        accuracy=Interval(now, *wilson_interval(now, effective)),
        before=before,
        since=bets[change].predicted_at,
        log_e=log_evidence_of_change(errors, probabilities) - math.log(max(family, 1)),
        lost=before - now > tolerated_loss,
    )
