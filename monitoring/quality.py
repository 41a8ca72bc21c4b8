"""What labels say: realised accuracy, and proof that accuracy or calibration is worse than tolerated.

Only outcome-blind labels judge, weighted by 1 / sampling probability. Proofs are by betting, so they may be looked at
after every label; see `stats.comparison` and `stats.calibration`. They bet on the first label of a client and day;
figures take the ones that count by now (`core.corrections`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from monitoring.baseline import Baseline, calibration_of
from monitoring.core.corrections import first_outcomes, placed_bets, standing_outcomes
from monitoring.core.signals import Floats
from monitoring.core.types import Interval, Outcome
from monitoring.slice_quality import SliceAccuracy, slice_accuracies
from monitoring.stats.calibration import calibration_drift_test
from monitoring.stats.comparison import error_rate_rise, error_rate_rise_start, mean_confidence_sequence

MAX_FOR_INTERVAL = 2_000
LABELS_TO_RECOVER = 100
MAX_LOOKS = 5


@dataclass(frozen=True)
class LabelEvidence:
    """What outcome-blind labels of the current reign say.

    `accuracy` (None without labels), `calibration` and `gap` are of the newest ones. `since`: when a loss of accuracy
    most likely began, if there is one.
    `gap`: accuracy that their confidences were worth at the baseline, minus their accuracy. `log_e_loss`: evidence that
    accuracy is below what is tolerated; `log_e_miscalibrated`: that the gap is wider than is tolerated;
    `miscalibrated_since`: when it most likely began to be, None where it never is. `slices`: of the declared ones.
    """

    labelled: int
    since: datetime | None
    accuracy: Interval | None
    calibration: dict[str, float]
    gap: float
    log_e_loss: float
    log_e_miscalibrated: float
    miscalibrated_since: datetime | None = None
    slices: tuple[SliceAccuracy, ...] = ()


def label_evidence(
    outcomes: Sequence[Outcome],
    baseline: Baseline,
    *,
    tolerated_loss: float,
    newest: int,
    loss_since: datetime,
    calibration_since: datetime,
    slices: Sequence[str] = (),
    slices_since: datetime | None = None,
) -> LabelEvidence:
    """Read the labels of one version. The proofs start anew after their last episode, at the times given.

    `slices`: the declared ones.
    """
    recent = sorted(blind_outcomes(outcomes), key=lambda outcome: outcome.predicted_at)[-newest:]
    stated = [outcome for outcome in recent if math.isfinite(outcome.confidence)]
    blind = first_outcomes(outcome for outcome in outcomes if outcome.source.outcome_blind)
    tested = placed_bets(outcome for outcome in blind if outcome.predicted_at >= calibration_since)
    tolerance = min(tolerated_loss + _doubt(baseline), 0.49)
    log_e_loss, loss_began = _evidence_of_loss(
        placed_bets(outcome for outcome in blind if outcome.predicted_at >= loss_since), baseline, tolerated_loss
    )
    test = calibration_drift_test(baseline.accuracy_at(_confidence(tested)), _correct(tested), tolerance)
    return LabelEvidence(
        labelled=len({outcome.prediction_id for outcome in outcomes}),
        since=loss_began,
        accuracy=realised_accuracy(recent),
        calibration=calibration_of(_confidence(stated), _correct(stated) > 0) if stated else {},
        gap=_gap(stated, baseline),
        log_e_loss=log_e_loss,
        log_e_miscalibrated=float(np.logaddexp(test.log_e_overconfident, test.log_e_underconfident)) - math.log(2),
        miscalibrated_since=_miscalibrated_since(tested, baseline, tolerance),
        slices=slice_accuracies(
            [outcome for outcome in blind if slices_since is None or outcome.predicted_at >= slices_since],
            slices,
            tolerated_loss=tolerated_loss,
        ),
    )


def realised_accuracy(outcomes: Sequence[Outcome], *, alpha: float = 0.05) -> Interval | None:
    """Accuracy by the newest 2,000 outcome-blind labels, with a confidence sequence; None without any."""
    blind = blind_outcomes(outcomes)[-MAX_FOR_INTERVAL:]
    if not blind:
        return None
    probabilities = np.array([outcome.sampling_probability for outcome in blind])
    interval = mean_confidence_sequence(_correct(blind), probabilities, alpha=alpha)
    return Interval(interval.value, interval.low, interval.high)


def accuracy_is_back(outcomes: Sequence[Outcome], floor: float) -> bool:
    """Whether labels prove an accuracy above `floor`."""
    accuracy = realised_accuracy(outcomes)
    return accuracy is not None and accuracy.low > floor


def calibration_is_back(outcomes: Sequence[Outcome], baseline: Baseline, tolerance: float) -> bool:
    """Whether confidences are worth what they were, within half of `tolerance`, by a hundred labels or more."""
    blind = blind_outcomes(outcomes)
    return len(blind) >= LABELS_TO_RECOVER and abs(_gap(blind, baseline)) <= tolerance / 2


def unknown_classes(outcomes: Sequence[Outcome], known: Collection[str]) -> dict[str, int]:
    """Labels of any source that count and that the model lacks, commonest first, with the number of predictions."""
    standing = standing_outcomes(outcomes)
    labelled = {(outcome.prediction_id, outcome.label) for outcome in standing if outcome.label not in known}
    return dict(Counter(label for _, label in sorted(labelled)).most_common())


def blind_outcomes(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that may judge and count, in order of labelling, one for each prediction and version."""
    return standing_outcomes(outcome for outcome in outcomes if outcome.source.outcome_blind)


def _evidence_of_loss(
    bets: Sequence[Outcome], baseline: Baseline, tolerated_loss: float
) -> tuple[float, datetime | None]:
    """Log e-value against 'the error rate never exceeds the baseline's upper bound plus what is tolerated'.

    With the time at which a loss most likely began.
    """
    tolerated_rate = 1.0 - baseline.accuracy.value + _doubt(baseline) + tolerated_loss
    if not (bets and tolerated_rate < 1.0):  # nan where the baseline has no labels
        return 0.0, None
    errors = 1.0 - _correct(bets)
    probabilities = [outcome.sampling_probability for outcome in bets]
    began = bets[error_rate_rise_start(errors, tolerated_rate, probabilities)].predicted_at
    return error_rate_rise(errors, tolerated_rate, probabilities), began


def _miscalibrated_since(tested: Sequence[Outcome], baseline: Baseline, tolerance: float) -> datetime | None:
    """When the gap most likely grew beyond `tolerance`, in the direction that exceeds it more; None where it never did.

    Page, "Continuous inspection schemes" (Biometrika 1954), looked at backwards: from its start on, the sum of what
    exceeds a reference is largest. The reference is half the gap found since the start, so both are found in turns.
    """
    if not tested:
        return None
    gaps = baseline.accuracy_at(_confidence(tested)) - _correct(tested)
    over, under = _sums_from_here(gaps, tolerance), _sums_from_here(-gaps, tolerance)
    wider, sums = (gaps, over) if over.max() >= under.max() else (-gaps, under)
    if sums.max() <= 0:
        return None
    start = int(sums.argmax())
    for _ in range(MAX_LOOKS):
        start = int(_sums_from_here(wider, max(tolerance, float(wider[start:].mean()) / 2)).argmax())
    return tested[start].predicted_at


def _sums_from_here(gaps: Floats, reference: float) -> Floats:
    return np.asarray(np.cumsum((gaps - reference)[::-1])[::-1])


def _doubt(baseline: Baseline) -> float:
    """How much lower the baseline's accuracy may be than it seems; without labels, anything is possible."""
    return baseline.accuracy.value - baseline.accuracy.low if baseline.labelled else 1.0


def _gap(outcomes: Sequence[Outcome], baseline: Baseline) -> float:
    if not outcomes:
        return 0.0
    return float((baseline.accuracy_at(_confidence(outcomes)) - _correct(outcomes)).mean())


def _confidence(outcomes: Sequence[Outcome]) -> Floats:
    return np.array([outcome.confidence for outcome in outcomes], dtype=np.float64)


def _correct(outcomes: Sequence[Outcome]) -> Floats:
    return np.array([outcome.correct for outcome in outcomes], dtype=np.float64)
