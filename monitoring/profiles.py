"""What a judged window leaves behind, and the judgement of any past span from what its windows left. Pure.

A profile is counted by the baseline's frozen bins, so that profiles of one baseline add up exactly: a month is judged
from its windows without reading a row again. Bins see a little less than the rows did, and never more: a binned
distance is at most that of the rows, so that the tests stay on the safe side. What the rows of one client are worth is
known for each window alone: of a client who comes back in many windows, a merged span makes a little too much.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Sequence
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from monitoring.baseline import Baseline
from monitoring.core.errors import Conflict
from monitoring.core.signals import Floats
from monitoring.core.types import SignalFinding
from monitoring.detect import worth_of
from monitoring.signals import Traffic, novelty
from monitoring.stats.binning import IntArray, bin_edges, count_bins
from monitoring.stats.profile import ProfileSpec, WindowProfile, merge_states
from monitoring.stats.two_sample import class_shift_test, holm, ks_test_binned, mmd_moments_test, tail_shift_test

STRANGENESS, VOCABULARY = "strangeness", "vocabulary"
EVEN_STEPS = 32


def profile_spec(baseline: Baseline) -> ProfileSpec:
    """What is counted of this baseline's traffic: its signals by frozen bins, classes with one for others, features."""
    basis = hashlib.blake2b("\0".join(baseline.classes).encode(), digest_size=16)
    basis.update(baseline.features.weights.astype("<f8").tobytes())
    edges = {name: _edges(values, baseline.edges.get(name)) for name, values in baseline.signals.items()}
    return ProfileSpec(
        dict(sorted((edges | {STRANGENESS: baseline.edges[STRANGENESS]}).items())),
        classes=len(baseline.classes) + 1,
        features=len(baseline.moments.mean),
        basis=basis.hexdigest(),
    )


def profile_of(baseline: Baseline, spec: ProfileSpec, window: Traffic) -> WindowProfile:
    """Count a window, n > 0, by the `profile_spec` of its baseline; a signal that was not computed counts as NaN."""
    number = {name: place for place, name in enumerate(baseline.classes)}
    others = len(baseline.classes)
    signals = {name: _column(baseline, window, name) for name in spec.edges}
    return WindowProfile.empty(spec).add(
        signals,
        np.array([number.get(name, others) for name in window.predicted.tolist()], dtype=np.int64),
        baseline.features.plain(window.projected),
        worth_of(window, signals[STRANGENESS]),
    )


def usual_counts(baseline: Baseline, spec: ProfileSpec) -> dict[str, IntArray]:
    """The baseline's own rows in the bins that its traffic is counted by, (bins,) for each signal."""
    counted = {name: count_bins(values, spec.edges[name]) for name, values in baseline.signals.items()}
    return counted | {STRANGENESS: baseline.strangeness_counts}


def span_findings(baseline: Baseline, span: WindowProfile, *, leeway: float, alpha: float) -> tuple[SignalFinding, ...]:
    """Every signal's two-sample test on a merged `span` against the baseline.

    With Holm's correction, as for a window. NaN is left out, as by the tests on rows; where nothing is left, the
    finding is nan and not significant.
    """
    worth = baseline.shared_worth(span.n, span.worth)
    results = {"labels": class_shift_test(np.append(baseline.class_counts, 0), span.class_counts, worth)}
    for name, usual in usual_counts(baseline, span.spec).items():
        if name == STRANGENESS:  # NaN is the strangest, and the tail's
            results[name] = tail_shift_test(usual, span.bin_counts[name], worth)
        else:
            results[name] = ks_test_binned(usual[:-1], span.bin_counts[name][:-1], worth)
    embedded = baseline.features.turned(span.feature_sum(), span.n_features)
    results["embedding"] = mmd_moments_test(baseline.moments, embedded, span.n_features, worth)
    significant = holm({name: result.p_value for name, result in results.items()}, alpha)
    return tuple(
        SignalFinding(name, result.statistic, result.p_value, result.effect, leeway, name in significant)
        for name, result in results.items()
    )


def pack(profile: WindowProfile) -> bytes:
    """As it is kept: compressed npz, no pickles."""
    return _packed(profile.to_arrays())


def unpack(spec: ProfileSpec, states: Iterable[bytes]) -> WindowProfile:
    """All the `states` merged; the empty profile for none. Raises Conflict where one is of another baseline."""
    loaded = [_loaded(state) for state in states]
    if not loaded:
        return WindowProfile.empty(spec)
    try:
        return WindowProfile.from_arrays(spec, merge_states(loaded))
    except ValueError as error:
        raise Conflict(f"these windows cannot be judged together: {error}") from error


def merge_packed(states: Sequence[bytes]) -> bytes:
    """Kept profiles of one baseline as one. Raises ValueError where they are of several."""
    return _packed(merge_states([_loaded(state) for state in states]))


def _edges(values: Floats, frozen: Floats | None) -> Floats:
    """The detector's frozen edges, or quantiles, and even steps over [0, 1] for a signal that lies within.

    Two more keep apart what is beyond all that the baseline has, even where it has one value only. Whole numbers need
    whole edges.
    """
    inside = bin_edges(values) if frozen is None else frozen
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return inside
    low, high = float(known.min()), float(known.max())
    steps = np.linspace(0.0, 1.0, EVEN_STEPS + 1) if 0.0 <= low and high <= 1.0 else np.empty(0)
    edges = np.concatenate([inside, steps, [low, np.nextafter(high, np.inf)]])
    return np.unique(np.ceil(edges) if np.array_equal(known, np.rint(known)) and high > 1.0 else edges)


def _column(baseline: Baseline, window: Traffic, name: str) -> Floats:
    if name == STRANGENESS:
        return baseline.strangeness(window.signals)
    if name in window.signals:
        return window.signals[name]
    if name == VOCABULARY and all(text is not None for text in window.texts):
        return novelty([text or "" for text in window.texts], baseline.words)
    return np.full(len(window), np.nan)


def _packed(arrays: dict[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _loaded(state: bytes) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays}
    except (EOFError, OSError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise Conflict(f"a kept window profile cannot be read: {error}") from error
