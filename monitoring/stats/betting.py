"""Testing by betting: the engine that the anytime-valid tests share.

A bettor starts with one coin and stakes part of it on every observation, at odds that are fair or worse while the null
hypothesis holds. The wealth is then a non-negative supermartingale, its logarithm a log e-value, and the chance that it
ever reaches 1/alpha is at most alpha (Ville): one may look after every observation and stop at will.

The bettor here spreads the coin over a fixed set of stakes (a mixture), so that nothing is tuned on the data and the
result does not depend on when one looks. Sources: Waudby-Smith & Ramdas, "Estimating means of bounded random variables
by betting" (JRSS-B 2024); Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference" (2023).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

STAKES: FloatArray = np.geomspace(0.004, 0.95, 13)
"""Fractions of the largest admissible stake: the small ones win on millions of units, the large ones on dozens."""

TILTS: FloatArray = np.geomspace(0.01, 2.0, 12)
"""Changes in log-odds that a bet on a binary event looks for: from 50.2 % to 88 % where the null says 50 %."""


@dataclass(frozen=True)
class BoundedStream:
    """Observations (n,) in order, each within bounds that were known before it came, and the weight of each in (0, 1].

    The tests below are about the common mean of the observations given their past, whatever their distribution; the
    nulls that are put to the test must lie within the bounds of every observation.
    """

    values: FloatArray
    low: FloatArray
    high: FloatArray
    weight: FloatArray

    def __len__(self) -> int:
        return len(self.values)


def bounded_stream(
    values: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, weight: npt.ArrayLike
) -> BoundedStream:
    """Check and gather a stream; bounds and weights may be numbers or arrays (n,). Raises ValueError on bad input."""
    checked = as_vector(values, "values")
    stream = BoundedStream(
        checked, *(np.broadcast_to(np.asarray(part, dtype=np.float64), checked.shape) for part in (low, high, weight))
    )
    outside = (stream.values < stream.low) | (stream.values > stream.high)
    if outside.any():
        where = int(np.argmax(outside))
        raise ValueError(
            f"values[{where}] is {stream.values[where]:g}, outside of "
            f"[{stream.low[where]:g}, {stream.high[where]:g}]: rescale it or state wider bounds"
        )
    return stream


def log_evidence_above(stream: BoundedStream, null: float) -> float:
    """Log e-value against 'the mean is at most `null`'; 0 for an empty stream."""
    return _log_wealth(_gains_above(stream, null))


def log_evidence_below(stream: BoundedStream, null: float) -> float:
    """Log e-value against 'the mean is at least `null`'; 0 for an empty stream."""
    return _log_wealth(_gains_below(stream, null))


def log_evidence_of_rise(stream: BoundedStream, null: float) -> float:
    """Log e-value against 'the mean never exceeds `null`', for a rise that may begin at any observation.

    The coin is also spread over the observation k at which betting begins, with the slowly falling prior
    1/log2(k + 1) - 1/log2(k + 2), so that a long quiet past does not use up the money that a late rise would earn.
    """
    gains = _gains_above(stream, null)
    return _from_any_start([np.log1p(stake * gains) for stake in STAKES])


def _from_any_start(log_gains: Sequence[FloatArray]) -> float:
    """Log wealth of a coin spread over bettors, given by their log gains (n,), and over the bet that each begins at."""
    unspent = 1.0 / np.log2(np.arange(len(log_gains[0]) + 1) + 2.0)
    log_prior = np.log(-np.diff(unspent))
    log_parts = [math.log(unspent[-1])]
    for gains in log_gains:
        growth = np.concatenate(([0.0], np.cumsum(gains)))
        log_parts.append(float(np.logaddexp.reduce(log_prior + growth[-1] - growth[:-1])) - math.log(len(log_gains)))
    return float(np.logaddexp.reduce(log_parts))


def likeliest_start(stream: BoundedStream, null: float) -> int:
    """The observation from which on betting against 'the mean is at most `null`' would have won most; 0 if none."""
    gains = _gains_above(stream, null)
    growth = np.stack([np.concatenate(([0.0], np.cumsum(np.log1p(stake * gains)))) for stake in STAKES])
    won = (growth[:, -1:] - growth[:, :-1]).max(axis=0, initial=-math.inf)
    return int(np.argmax(won)) if len(won) else 0


def confidence_bounds(stream: BoundedStream, alpha: float, support: tuple[float, float]) -> tuple[float, float]:
    """Bounds (low, high) of a confidence sequence for the mean: the nulls that neither of two bettors refutes.

    Each side spends alpha/2. `support` is where the mean must lie. It comes back for an empty stream, and where no
    common mean fits the observations at all.
    """
    if len(stream) == 0:
        return support
    threshold = math.log(2.0 / alpha)
    edge = 1e-9 * (support[1] - support[0])
    inside = support[0] + edge, support[1] - edge
    # Both kinds of evidence are monotone in the null, so that each has at most one root.
    low = _crossing(lambda null: log_evidence_above(stream, null) - threshold, inside, support)
    high = _crossing(lambda null: threshold - log_evidence_below(stream, null), inside, support)
    return (low, high) if low <= high else support


def log_tilt_evidence(event: FloatArray, rate: FloatArray, tilts: FloatArray) -> float:
    """Log e-value of binary events (n,) against their stated probabilities `rate` (n,) in (0, 1).

    Mixture of likelihood ratios with the log-odds moved by each tilt. With positive tilts only it also holds against
    'the probability is at most `rate`', with negative ones against 'at least'.
    """
    rates, counts = np.unique(rate, return_counts=True)  # the order does not matter, and traffic shares are few
    log_ratios = [tilt * event.sum() - counts @ np.log1p(rates * np.expm1(tilt)) for tilt in tilts]
    return float(np.logaddexp.reduce(log_ratios)) - math.log(len(tilts))


def log_tilt_evidence_of_rise(event: FloatArray, rate: FloatArray, tilts: FloatArray) -> float:
    """The same for log-odds that may move at any event, in order; starts are weighed as in `log_evidence_of_rise`."""
    return _from_any_start([tilt * event - np.log1p(rate * np.expm1(tilt)) for tilt in tilts])


def sampling_weights(probabilities: npt.ArrayLike | None, n: int, smallest: float | None = None) -> FloatArray:
    """Inverse-propensity weights (n,) of labelled units, scaled into (0, 1] so that no stake can be overdrawn.

    A unit labelled with probability p counts `floor / p`, at most 1. Where `smallest`, the least probability that the
    sampling can give, is stated, it is the floor and the tests are exact. Otherwise the floor is the least probability
    among the units before (of the first unit: its own), which is exact while probabilities are set without looking at
    the unit, and else errs only at the few units that bring a new minimum, whose weight is clipped.
    Raises ValueError for a probability outside of (0, 1] or below `smallest`.
    """
    if probabilities is None:
        return np.ones(n)
    checked = as_vector(probabilities, "probabilities")
    if len(checked) != n:
        raise ValueError(f"probabilities has {len(checked)} entries for {n} units: give one for each unit")
    if n == 0:
        return checked
    least = float(checked.min())
    if least <= 0.0 or checked.max() > 1.0:
        raise ValueError("probabilities must lie in (0, 1]: leave out units that were not sampled at random")
    if smallest is None:
        floor = np.minimum.accumulate(np.concatenate((checked[:1], checked[:-1])))
    elif 0.0 < smallest <= least:
        floor = np.full(n, smallest)
    else:
        raise ValueError(f"smallest probability {smallest:g} must lie in (0, {least:g}], the least that was seen")
    return np.minimum(1.0, floor / checked)


def as_vector(values: npt.ArrayLike, name: str) -> FloatArray:
    """A finite float vector (n,). Raises ValueError that names the field otherwise."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"{name} has shape {vector.shape}: give a vector (n,)")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} holds a value that is not finite: leave such units out and count them")
    return vector


def check_alpha(alpha: float) -> None:
    """Raises ValueError unless alpha lies strictly between 0 and 1."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is {alpha:g}: it must lie strictly between 0 and 1")


def _crossing(falling: Callable[[float], float], inside: tuple[float, float], support: tuple[float, float]) -> float:
    """Where a falling function passes zero; an end of the support where it does not."""
    if falling(inside[0]) <= 0.0:
        return support[0]
    if falling(inside[1]) >= 0.0:
        return support[1]
    from scipy.optimize import brentq  # .4 s and 40 MB, which a serving process with nothing to judge is spared

    return float(brentq(falling, *inside, xtol=1e-9))


def _gains_above(stream: BoundedStream, null: float) -> FloatArray:
    """Gain of a full stake on each observation lying above `null`; never below -1."""
    return stream.weight * (stream.values - null) / (null - stream.low)


def _gains_below(stream: BoundedStream, null: float) -> FloatArray:
    return stream.weight * (null - stream.values) / (stream.high - null)


def _log_wealth(gains: FloatArray) -> float:
    growth = [float(np.log1p(stake * gains).sum()) for stake in STAKES]
    return float(np.logaddexp.reduce(growth)) - math.log(len(STAKES))
