"""Reading a rollout's evidence: pure, from exposures and outcomes to comparisons. `service.rollout` decides on it.

The unit is the assignment key. A unit enters the accuracy comparison once, when its cohort has matured: with what it
was answered and what was labelled within `maturation` of its first request; what is corrected later changes nothing
that was judged. Only outcome-blind labels count. Guardrails (failed requests, and slow ones in A/B) need no labels and
are read at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from monitoring.core.corrections import standing_outcomes
from monitoring.core.ledger.rollout_evidence import SILENT_STEP, Exposure
from monitoring.core.plain import plain
from monitoring.core.settings import RolloutSettings
from monitoring.core.types import ModelVersion, Outcome, RetrainCause, Rollout, Stage
from monitoring.stats.comparison import (
    Comparison,
    Interval,
    mean_confidence_sequence,
    paired_comparison,
    sample_ratio_e_value,
    unpaired_comparison,
)

NLL_GATE = "nll_on_recent"
"""The gate by which a recalibration proves itself; `training.gates` names it."""


@dataclass(frozen=True)
class Agreement:
    """Shadow predictions that both versions answered and somebody labelled, of so many units; labels that differ."""

    units: int
    predictions: int
    differing: int


@dataclass(frozen=True)
class Reading:
    """What is known about a rollout now. Comparisons are candidate minus champion.

    `accuracy`: paired in shadow, unpaired in A/B. `errors`: of requests that did not fail; in shadow paired, of units
    whose copies the candidate was shown, None before there are any. `latency`: of requests that were not slow; None in
    shadow, where a copy's time is that of the model alone, a champion's that of its queue, too. `log_e_sample_ratio`:
    evidence that units were not assigned as stated. `step_candidates`, `step_champions`: matured, labelled units of the
    step in force. `agreement`: None in A/B, where no request is answered by both.
    """

    accuracy: Comparison
    errors: Comparison | None
    latency: Comparison | None
    log_e_sample_ratio: float
    units: int
    step_candidates: int
    step_champions: int
    agreement: Agreement | None = None

    def as_json(self) -> dict[str, Any]:
        """For the ledger, the API and the console; None where nothing can be said yet, since JSON has no nan."""
        return dict(plain(self))


@dataclass(frozen=True)
class UnitOutcome:
    """One matured unit: its mean correctness (in shadow: the difference of both versions'), and how its label came.

    `probability`: with which the unit's predictions were sampled for labelling.
    """

    unit: str
    value: float
    probability: float


def read_rollout(
    rollout: Rollout,
    exposures: Sequence[Exposure],
    outcomes: Sequence[Outcome],
    *,
    settings: RolloutSettings,
    now: datetime,
) -> Reading:
    """Everything that the decision needs, from the evidence of `rollout` so far."""
    maturation = timedelta(seconds=settings.maturation_seconds)
    if rollout.stage is Stage.SHADOW:
        seen = first_exposures(exposures, shadow=True)
        pairs = paired_units(rollout, seen, outcomes, maturation=maturation, now=now)
        accuracy = paired_comparison(
            [pair.value for pair in pairs],
            [pair.probability for pair in pairs],
            alpha=settings.alpha,
            margin=settings.margin,
        )
        return Reading(
            accuracy=accuracy,
            errors=_shadow_guardrail(shadowed_units(exposures), settings),
            latency=None,
            log_e_sample_ratio=0.0,
            units=len(seen),
            step_candidates=len(pairs),
            step_champions=len(pairs),
            agreement=agreement_of(rollout, outcomes),
        )
    return _read_split(rollout, first_exposures(exposures, shadow=False), outcomes, maturation, settings, now)


def first_exposures(exposures: Iterable[Exposure], *, shadow: bool) -> list[Exposure]:
    """Each unit's first step of the stage, in order of first sight: later steps may have moved it to another arm."""
    first: dict[str, Exposure] = {}
    for exposure in sorted(exposures, key=lambda item: (item.first_seen, item.unit)):
        if exposure.step != SILENT_STEP and (exposure.step < 0) == shadow:
            first.setdefault(exposure.unit, exposure)
    return list(first.values())


def paired_units(
    rollout: Rollout, seen: Sequence[Exposure], outcomes: Sequence[Outcome], *, maturation: timedelta, now: datetime
) -> list[UnitOutcome]:
    """Matured shadow units: candidate-correct minus champion-correct, averaged over the unit's labelled predictions."""
    by_unit = _in_time(seen, outcomes, maturation)
    units = []
    for exposure in _matured(seen, maturation, now):
        champion = _by_prediction(by_unit[exposure.unit], rollout.champion)
        candidate = _by_prediction(by_unit[exposure.unit], rollout.candidate)
        both = sorted(champion.keys() & candidate.keys())
        if both:
            differences = [candidate[key].correct - champion[key].correct for key in both]
            units.append(_unit(exposure.unit, differences, [champion[key] for key in both]))
    return units


def shadowed_units(exposures: Iterable[Exposure]) -> list[tuple[Exposure, Exposure]]:
    """The shadow units that both versions answered, in order of first sight: champion's requests, silent copies."""
    of_step: dict[bool, dict[str, Exposure]] = {True: {}, False: {}}
    for exposure in exposures:
        if exposure.step < 0:
            of_step[exposure.step == SILENT_STEP][exposure.unit] = exposure
    champion, silent = of_step[False], of_step[True]
    shown = sorted(silent.keys() & champion.keys(), key=lambda unit: (champion[unit].first_seen, unit))
    return [(champion[unit], silent[unit]) for unit in shown]


def agreement_of(rollout: Rollout, outcomes: Iterable[Outcome]) -> Agreement:
    """How often both versions gave the same label in shadow. Any label will do: it only tells that a row is known."""
    said: dict[str, dict[str, str]] = defaultdict(dict)
    unit_of: dict[str, str] = {}
    for outcome in outcomes:
        if outcome.step < 0 and outcome.version in (rollout.champion, rollout.candidate):
            said[outcome.prediction_id][outcome.version] = outcome.predicted
            unit_of[outcome.prediction_id] = outcome.unit
    both = [prediction for prediction, answers in said.items() if len(answers) == 2]
    differing = sum(said[prediction][rollout.champion] != said[prediction][rollout.candidate] for prediction in both)
    return Agreement(len({unit_of[prediction] for prediction in both}), len(both), differing)


def recalibration_of(candidate: ModelVersion, champion: str) -> str | None:
    """What a candidate's gate recorded, if it is a recalibration of this very champion that passed; else None.

    Only then are its labels the champion's by construction, so that no comparison of accuracy could tell them apart.
    """
    made_from = candidate.lineage.get("cause"), candidate.lineage.get("parent")
    if made_from != (RetrainCause.CALIBRATION, champion) or not candidate.lineage.get("recalibration"):
        return None
    gates = {gate.get("name"): gate for gate in candidate.evidence.get("gates") or []}
    gate = gates.get(NLL_GATE)
    if gate is None or not all(one.get("passed") for one in gates.values()):
        return None
    return str(gate.get("reason"))


def accuracy_of(outcomes: Iterable[Outcome], *, maturation: timedelta, now: datetime, alpha: float) -> Interval:
    """Accuracy of one version over its matured units, with a confidence sequence: for the watch after a promotion.

    A unit starts with its first outcome-blind prediction: complaints come where the version is wrong.
    """
    of_unit: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in sorted(outcomes, key=lambda item: (item.predicted_at, item.unit)):
        if outcome.source.outcome_blind:
            of_unit[outcome.unit].append(outcome)
    units = []
    for unit, told in of_unit.items():
        matures = told[0].predicted_at + maturation
        kept = standing_outcomes(outcome for outcome in told if outcome.labelled_at <= matures)
        if kept and matures <= now:
            units.append(_unit(unit, [outcome.correct for outcome in kept], kept))
    return mean_confidence_sequence([unit.value for unit in units], [unit.probability for unit in units], alpha=alpha)


def proven_worse(champion: Interval, replaced: Interval) -> bool:
    """Whether a promotion has proven to be a mistake, when both intervals are valid at half the error allowed."""
    return champion.high < replaced.low


def _read_split(
    rollout: Rollout,
    seen: Sequence[Exposure],
    outcomes: Sequence[Outcome],
    maturation: timedelta,
    settings: RolloutSettings,
    now: datetime,
) -> Reading:
    by_unit = _in_time(seen, outcomes, maturation)
    labelled: list[tuple[Exposure, UnitOutcome]] = []
    for exposure in _matured(seen, maturation, now):
        version = rollout.candidate if exposure.candidate else rollout.champion
        kept = list(_by_prediction(by_unit[exposure.unit], version).values())
        if kept:
            labelled.append((exposure, _unit(exposure.unit, [outcome.correct for outcome in kept], kept)))
    accuracy = unpaired_comparison(
        [exposure.candidate for exposure, _ in labelled],
        [unit.value for _, unit in labelled],
        np.array([exposure.share for exposure, _ in labelled]),
        [unit.probability for _, unit in labelled],
        alpha=settings.alpha,
        margin=settings.margin,
    )
    in_step = [exposure.candidate for exposure, _ in labelled if exposure.step == rollout.step]
    return Reading(
        accuracy=accuracy,
        errors=_guardrail(seen, [1 - unit.errors / unit.requests for unit in seen], settings),
        latency=_guardrail(seen, [1 - unit.slow / unit.requests for unit in seen], settings),
        log_e_sample_ratio=sample_ratio_e_value(
            [unit.candidate for unit in seen], np.array([unit.share for unit in seen])
        ),
        units=len(seen),
        step_candidates=sum(in_step),
        step_champions=len(in_step) - sum(in_step),
    )


def _guardrail(seen: Sequence[Exposure], good: Sequence[float], settings: RolloutSettings) -> Comparison:
    return unpaired_comparison(
        [unit.candidate for unit in seen],
        good,
        np.array([unit.share for unit in seen]),
        alpha=settings.guardrail_alpha,
        margin=settings.guardrail_margin,
    )


def _shadow_guardrail(both: Sequence[tuple[Exposure, Exposure]], settings: RolloutSettings) -> Comparison | None:
    """Paired: each unit's share of silent answers that did not fail minus that of the champion's to the same unit."""
    if not both:
        return None
    return paired_comparison(
        [champion.errors / champion.requests - silent.errors / silent.requests for champion, silent in both],
        alpha=settings.guardrail_alpha,
        margin=settings.guardrail_margin,
    )


def _matured(seen: Sequence[Exposure], maturation: timedelta, now: datetime) -> list[Exposure]:
    return [exposure for exposure in seen if exposure.first_seen + maturation <= now]


def _in_time(
    seen: Sequence[Exposure], outcomes: Iterable[Outcome], maturation: timedelta
) -> Mapping[str, list[Outcome]]:
    """Each unit's outcome-blind outcomes of its own step that were labelled before the unit matured."""
    exposure_of = {exposure.unit: exposure for exposure in seen}
    kept: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        exposure = exposure_of.get(outcome.unit)
        if exposure is None or outcome.step != exposure.step or not outcome.source.outcome_blind:
            continue
        if outcome.labelled_at <= exposure.first_seen + maturation:
            kept[outcome.unit].append(outcome)
    return kept


def _by_prediction(outcomes: Iterable[Outcome], version: str) -> dict[str, Outcome]:
    """The outcome that counts for each prediction of `version`."""
    own = standing_outcomes(outcome for outcome in outcomes if outcome.version == version)
    return {outcome.prediction_id: outcome for outcome in own}


def _unit(unit: str, values: Sequence[float], outcomes: Sequence[Outcome]) -> UnitOutcome:
    """The unit's mean over its labelled predictions, each weighted by how rarely its like is sampled."""
    probabilities = np.array([outcome.sampling_probability for outcome in outcomes])
    return UnitOutcome(unit, float(np.average(values, weights=1.0 / probabilities)), float(probabilities.mean()))
