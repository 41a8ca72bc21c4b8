"""The gates: what a trained model must show before a person is asked. Pure: evidence in, named results out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.core.settings import GateSettings
from training.precision import Choice

ALPHA = 0.05
NLL_ON_RECENT = "nll_on_recent"
SIGN_FLIPS = 10_000


@dataclass(frozen=True)
class GateResult:
    """One gate: the value it read, the limit it holds it against, and why it passed or not."""

    name: str
    passed: bool
    value: float
    limit: float
    reason: str


@dataclass(frozen=True)
class Paired:
    """Champion and candidate on the same n labelled rows: whether each was right, sampling weights, hashed units.

    A label that a version lacks counts as wrong, so versions with different label sets compare on the union.
    """

    candidate: NDArray[np.bool_]
    champion: NDArray[np.bool_]
    weights: NDArray[np.float64]
    units: Sequence[str]

    def __len__(self) -> int:
        return len(self.candidate)

    @property
    def differences(self) -> NDArray[np.float64]:
        """Candidate minus champion, -1, 0 or 1 a row."""
        return self.candidate.astype(np.float64) - self.champion.astype(np.float64)

    @property
    def difference(self) -> float:
        """Weighted mean difference in accuracy; nan without rows."""
        return float(np.average(self.differences, weights=self.weights)) if len(self) else np.nan


@dataclass(frozen=True)
class Artefact:
    """What was measured on the bundle itself. `latency_ratio` is None where there is no champion to stand beside."""

    choice: Choice
    calibration_error: float
    size_mb: float
    latency_ratio: float | None


@dataclass(frozen=True)
class Recalibrated:
    """The old and the new temperature on the same n held-out recent rows, whose labels took no part in the fit.

    `before`, `after`: NLL of each row in nats, (n,); `weights`: inverse sampling probabilities; `units`: hashed keys.
    `labels_changed` of the `compared` texts, as both bundles answer them, read back from disk. `calibration_error`: the
    debiased one that is left.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    weights: NDArray[np.float64]
    units: Sequence[str]
    labels_changed: int
    compared: int
    calibration_error: float

    @property
    def gain(self) -> float:
        """Weighted mean of the NLL that the new temperature saves, in nats a row; nan without rows."""
        return float(np.average(self.before - self.after, weights=self.weights)) if len(self.before) else np.nan


def judge_artefact(artefact: Artefact, limits: GateSettings) -> tuple[GateResult, ...]:
    """The gates that every model passes, the first one too."""
    results = (
        _parity(artefact.choice.agreement, limits.min_agreement),
        _at_most(
            "accuracy_loss",
            artefact.choice.accuracy_loss,
            limits.max_accuracy_loss,
            "of the labelled texts are answered right by torch and wrong by the artefact, net",
        ),
        _at_most(
            "batch_dependence",
            artefact.choice.dependence,
            limits.max_batch_dependence,
            "is the most by which batchmates move a text's first probability",
        ),
        _at_most(
            "calibration",
            artefact.calibration_error,
            limits.max_calibration_error,
            "is the debiased calibration error on the hold-out",
        ),
        _at_most("size", artefact.size_mb, limits.max_size_mb, "MB is the size of the bundle"),
    )
    if artefact.latency_ratio is None:
        return results
    meaning = "times the champion's latency, measured side by side"
    return (*results, _at_most("latency", artefact.latency_ratio, limits.max_latency_ratio, meaning))


def judge_against_champion(old: Paired, recent: Paired, limits: GateSettings, *, seed: int) -> tuple[GateResult, ...]:
    """The further gates of a retrained model.

    `old`: the old hold-out's rows of the champion's own classes; `recent`: the recent hold-out, outcome-blind labels.
    """
    return no_worse(old, limits.old_margin), better(recent, limits.recent_gain, limits.min_recent, seed=seed)


def no_worse(old: Paired, margin: float) -> GateResult:
    """The candidate may lose up to `margin` on what the champion knows. The rollout tests it in earnest."""
    name, limit = "no_worse_on_old", -margin
    if len(old) == 0:
        return GateResult(name, False, np.nan, limit, "the old hold-out has no rows to compare on")
    passed = old.difference >= limit
    verdict = "within" if passed else "beyond"
    reason = f"{old.difference:+.3f} accuracy on {len(old)} old hold-out rows, {verdict} the margin of {margin:.3f}"
    return GateResult(name, passed, old.difference, limit, reason)


def better(recent: Paired, gain: float, enough: int, *, seed: int) -> GateResult:
    """The candidate must gain more than `gain` on recent traffic, proven at 5 % by a one-sided paired test."""
    name = "better_on_recent"
    if len(recent) < enough:
        reason = f"{len(recent)} recent outcome-blind labels are held out; the gate needs {enough}: collect more labels"
        return GateResult(name, False, recent.difference, gain, reason)
    p_value = sign_flip_test(recent, gain, rng=np.random.default_rng(seed))
    passed = recent.difference > gain and p_value <= ALPHA
    proof = f"p = {p_value:.4f}, {'proven' if passed else 'not proven'} at {ALPHA:.0%}"
    reason = f"{recent.difference:+.3f} accuracy on {len(recent)} recent rows, to gain more than {gain:.3f}: {proof}"
    return GateResult(name, passed, recent.difference, gain, reason)


def judge_recalibration(found: Recalibrated, limits: GateSettings) -> tuple[GateResult, ...]:
    """The gates of a version that differs from the champion in nothing but its temperature."""
    changed, compared = found.labels_changed, found.compared
    share = changed / compared if compared else np.nan
    unchanged = GateResult(
        "labels_unchanged",
        compared > 0 and changed == 0,
        share,
        0.0,
        f"{changed} of {compared} held-out texts are answered with another label than the champion's",
    )
    return (
        likelier(found, limits.min_recent),
        unchanged,
        _at_most(
            "calibration",
            found.calibration_error,
            limits.max_calibration_error,
            "is the debiased calibration error left on the recent hold-out",
        ),
    )


def likelier(found: Recalibrated, enough: int) -> GateResult:
    """The new temperature must lower the NLL on recent held-out rows, proven at 5 %."""
    n = len(found.before)
    if n < enough:
        reason = f"{n} recent outcome-blind labels are held out; the gate needs {enough}: collect more labels"
        return GateResult(NLL_ON_RECENT, False, found.gain, 0.0, reason)
    evidence = log_likelihood_ratio(found)
    passed = bool(found.gain > 0.0 and evidence >= -np.log(ALPHA))
    proof = f"e = {np.exp(min(evidence, 30.0)):.3g}, {'proven' if passed else 'not proven'} at {ALPHA:.0%}"
    reason = f"{found.gain:+.4f} nats saved a row on {n} recent rows, to save more than 0: {proof}"
    return GateResult(NLL_ON_RECENT, passed, found.gain, 0.0, reason)


def log_likelihood_ratio(found: Recalibrated) -> float:
    """Log e-value against 'the champion's probabilities are right': how much likelier the labels are by the new ones.

    Exact for any number of rows, since the new temperature was fitted on others (Wasserman, Ramdas & Balakrishnan,
    "Universal inference", 2020). Rows of one unit hang together, so each unit counts once, by the mean of its rows; a
    power below one, such as a weight over the largest weight, only makes an e-value smaller (Hoelder's inequality).
    """
    _, unit = np.unique(np.asarray(found.units, dtype=np.str_), return_inverse=True)
    power = found.weights / found.weights.max() / np.bincount(unit)[unit]
    return float(power @ (found.before - found.after))


def sign_flip_test(pairs: Paired, gain: float, *, rng: np.random.Generator) -> float:
    """One-sided p-value against 'the candidate gains no more than `gain`'.

    If both were equally good, each unit's weighted difference could as well have had the other sign (Fisher 1935).
    Units are flipped whole, for rows of one key hang together. Unweighted single rows make it McNemar's exact test.
    """
    _, unit = np.unique(np.asarray(pairs.units, dtype=np.str_), return_inverse=True)
    sums = np.bincount(unit, weights=pairs.weights * (pairs.differences - gain))
    sums = sums[sums != 0.0]
    if len(sums) == 0:
        return 1.0
    at_least = 0
    for _ in range(SIGN_FLIPS // 1000):
        flipped = rng.choice((-1.0, 1.0), size=(1000, len(sums))) @ sums
        at_least += int((flipped >= sums.sum() - 1e-9).sum())
    return (at_least + 1) / (SIGN_FLIPS + 1)


def _at_most(name: str, value: float, limit: float, meaning: str) -> GateResult:
    passed = bool(value <= limit)  # nan passes nothing
    verdict = "at most" if passed else "over"
    return GateResult(name, passed, value, limit, f"{value:.4g} {meaning}; {verdict} {limit:.4g}")


def _parity(agreement: float, limit: float) -> GateResult:
    passed = bool(agreement >= limit)
    verdict = "at least" if passed else "under"
    meaning = "of the labels agree between torch and the artefact that serves, read back from disk"
    return GateResult("parity", passed, agreement, limit, f"{agreement:.2%} {meaning}; {verdict} {limit:.2%}")
