"""What a window leaves behind: a state of bounded size that merges exactly.

Replicas, hours and slices each fill a profile; profiles of the same spec add up to the profile of all their rows, in
whatever order and grouping, bit for bit. That is why sums of real numbers are kept in fixed point: floating-point
addition depends on the order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from monitoring.stats.binning import FloatArray, IntArray, as_column, bin_count, count_bins, finite_rows

_FORMAT = 3

State = Mapping[str, npt.NDArray[Any]]
"""A profile as it is kept: whole numbers, and the digest of its spec, which stays with the baseline."""

_UNIT = float(2**24)
"""Fixed-point units in 1: features are rounded to 6e-8, far below what sampling adds."""

_WORTH_UNIT = 1_000
"""Parts of a row in which it is kept how many independent rows a profile is worth."""

_LARGEST_FEATURE = float(2**12)
"""With features of this size sums stay exact over 2^27 (134 million) rows; of size 1, over 2^39."""


@dataclass(frozen=True, eq=False)
class ProfileSpec:
    """What is counted, frozen with the baseline: only profiles of one spec merge or compare."""

    edges: Mapping[str, FloatArray]
    """Bin edges by signal (`bin_edges`)."""
    classes: int
    """Number of classes that the model can predict."""
    features: int
    """Number of features whose means are kept: random features of the embedding, projections."""
    basis: str = ""
    """What else the counts stand on, such as a digest of the features' weights and the names of the classes."""

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes must be at least 1, not {self.classes}")
        if self.features < 0:
            raise ValueError(f"features must not be negative, not {self.features}")
        object.__setattr__(self, "edges", {name: as_column(v, f"edges of {name!r}") for name, v in self.edges.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProfileSpec):
            return NotImplemented
        return (
            (self.classes, self.features, self.basis) == (other.classes, other.features, other.basis)
            and self.edges.keys() == other.edges.keys()
            and all(np.array_equal(edges, other.edges[name]) for name, edges in self.edges.items())
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    @cached_property
    def digest(self) -> str:
        """What tells specs apart where only states are at hand: 32 hexadecimal digits."""
        said = hashlib.blake2b(f"{self.classes}\0{self.features}\0{self.basis}".encode(), digest_size=16)
        for name, edges in self.edges.items():
            said.update(f"\0{name}\0{len(edges)}\0".encode() + edges.astype("<f8").tobytes())
        return said.hexdigest()


@dataclass(frozen=True, eq=False)
class WindowProfile:
    """Counts and sums over n predictions. A value: `add` and `merge` return a new profile.

    >>> spec = ProfileSpec({"confidence": np.array([0.5, 0.9])}, classes=3, features=1)
    >>> morning = WindowProfile.empty(spec).add({"confidence": [0.4, 0.95]}, [0, 2], [[0.5], [1.0]])
    >>> evening = WindowProfile.empty(spec).add({"confidence": [0.6]}, [2], [[0.75]])
    >>> day = morning.merge(evening)
    >>> day.n, day.bin_counts["confidence"].tolist(), day.class_counts.tolist(), day.feature_mean().tolist()
    (3, [1, 1, 1, 0], [1, 0, 2], [0.75])
    """

    spec: ProfileSpec
    n: int
    bin_counts: Mapping[str, IntArray]
    """By signal, shape (bins,); the last bin holds the NaNs."""
    class_counts: IntArray
    """Shape (classes,)."""
    n_features: int
    """Rows whose features were all finite: only these are in the sums."""
    feature_units: IntArray
    """Sums of the features in fixed point, shape (features,)."""
    worth_units: int = 0
    """How many independent rows the n are worth, in thousandths."""

    @classmethod
    def empty(cls, spec: ProfileSpec) -> Self:
        """The profile of no prediction: merging it changes nothing."""
        return cls(
            spec,
            n=0,
            bin_counts={name: np.zeros(bin_count(edges), dtype=np.int64) for name, edges in spec.edges.items()},
            class_counts=np.zeros(spec.classes, dtype=np.int64),
            n_features=0,
            feature_units=np.zeros(spec.features, dtype=np.int64),
        )

    def add(
        self,
        signals: Mapping[str, npt.ArrayLike],
        predicted: npt.ArrayLike,
        features: npt.ArrayLike,
        worth: float = 1.0,
    ) -> WindowProfile:
        """This profile and n more predictions.

        Args:
            signals: by name as in the spec, each of shape (n,); NaN is counted as such.
            predicted: shape (n,): predicted classes, integers in `range(classes)`.
            features: shape (n, features); rows that are not finite are left out of the sums.
            worth: how many independent rows each is worth (`design_effect`).

        Raises:
            ValueError: a signal is missing or unknown, lengths differ, or a class or feature is out of range.
        """
        if signals.keys() != self.spec.edges.keys():
            raise ValueError(f"signals must be {sorted(self.spec.edges)}, not {sorted(signals)}")
        columns = {name: as_column(values, f"signal {name!r}") for name, values in signals.items()}
        classes, rows = self._checked(predicted, features)
        lengths = {**{name: len(values) for name, values in columns.items()}, "features": len(rows)}
        if set(lengths.values()) - {len(classes)}:
            raise ValueError(f"predicted has {len(classes)} rows: signals and features must too, not {lengths}")
        finite = rows[finite_rows(rows)]
        if np.abs(finite).max(initial=0.0) > _LARGEST_FEATURE:
            raise ValueError(f"features must lie within ±{_LARGEST_FEATURE:g}: scale embeddings to unit length")
        return self.merge(
            WindowProfile(
                self.spec,
                n=len(classes),
                bin_counts={name: count_bins(columns[name], edges) for name, edges in self.spec.edges.items()},
                class_counts=np.bincount(classes, minlength=self.spec.classes).astype(np.int64),
                n_features=len(finite),
                feature_units=np.rint(finite * _UNIT).astype(np.int64).sum(axis=0),
                worth_units=round(len(classes) * worth * _WORTH_UNIT),
            )
        )

    def merge(self, other: WindowProfile) -> WindowProfile:
        """The profile of the rows of both: associative and commutative, bit for bit."""
        if self.spec is not other.spec and self.spec != other.spec:
            raise ValueError("profiles of different specs do not merge: they were made against different baselines")
        return WindowProfile(
            self.spec,
            n=self.n + other.n,
            bin_counts={name: counts + other.bin_counts[name] for name, counts in self.bin_counts.items()},
            class_counts=self.class_counts + other.class_counts,
            n_features=self.n_features + other.n_features,
            feature_units=self.feature_units + other.feature_units,
            worth_units=self.worth_units + other.worth_units,
        )

    @property
    def worth(self) -> float:
        """How many independent rows a row is worth, the mean over what was added; 1 for the empty profile."""
        return self.worth_units / (self.n * _WORTH_UNIT) if self.n else 1.0

    def feature_sum(self) -> FloatArray:
        """Sums of the features over `n_features` rows, shape (features,)."""
        total: FloatArray = self.feature_units / _UNIT
        return total

    def feature_mean(self) -> FloatArray:
        """Means of the features, shape (features,); nan where no row had any."""
        if self.n_features == 0:
            return np.full(self.spec.features, np.nan)
        return self.feature_sum() / self.n_features

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The state as arrays for `np.savez`, without pickles; the spec is named by its digest."""
        return {
            "format": np.array(_FORMAT),
            "spec": np.array(self.spec.digest),
            "n": np.array(self.n),
            "n_features": np.array(self.n_features),
            "worth_units": np.array(self.worth_units),
            "bin_counts": np.concatenate([np.empty(0, dtype=np.int64), *self.bin_counts.values()]),
            "class_counts": self.class_counts.copy(),
            "feature_units": self.feature_units.copy(),
        }

    @classmethod
    def from_arrays(cls, spec: ProfileSpec, arrays: State) -> Self:
        """The profile whose `to_arrays` this is; ValueError when it is of another format or spec."""
        _check_format(arrays)
        if str(arrays["spec"]) != spec.digest:
            raise ValueError("the window profile was counted against another baseline: the two do not compare")
        sizes = [bin_count(edges) for edges in spec.edges.values()]
        counts = np.split(np.array(arrays["bin_counts"]), np.cumsum(sizes)[:-1])
        return cls(
            spec,
            n=int(arrays["n"]),
            bin_counts=dict(zip(spec.edges, counts, strict=True)) if sizes else {},
            class_counts=np.array(arrays["class_counts"]),
            n_features=int(arrays["n_features"]),
            feature_units=np.array(arrays["feature_units"]),
            worth_units=int(arrays["worth_units"]),
        )

    def _checked(self, predicted: npt.ArrayLike, features: npt.ArrayLike) -> tuple[IntArray, FloatArray]:
        classes = np.asarray(predicted)
        if classes.size == 0:
            classes = classes.astype(np.int64)
        if classes.ndim != 1 or not np.issubdtype(classes.dtype, np.integer):
            raise ValueError(f"predicted must hold integers, shape (n,), not {classes.dtype} of shape {classes.shape}")
        if classes.size and not (0 <= classes.min() and classes.max() < self.spec.classes):
            raise ValueError(
                f"predicted holds class {classes.min()} to {classes.max()}: the spec has {self.spec.classes} classes"
            )
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.spec.features:
            raise ValueError(f"features must have shape (n, {self.spec.features}), not {rows.shape}")
        return classes, rows


def merge_states(states: Sequence[State]) -> dict[str, npt.NDArray[Any]]:
    """The state of all the rows of some states, at least one: what `WindowProfile.merge` does, without the spec.

    Raises ValueError where they are of different specs, or of another format.
    """
    for state in states:
        _check_format(state)
    first = states[0]
    if any(str(state["spec"]) != str(first["spec"]) for state in states):
        raise ValueError("profiles of different specs do not merge: they were made against different baselines")
    counted = {
        name: np.sum([state[name] for state in states], axis=0)
        for name in ("n", "n_features", "worth_units", "bin_counts", "class_counts", "feature_units")
    }
    return {"format": np.array(_FORMAT), "spec": np.array(str(first["spec"])), **counted}


def _check_format(arrays: State) -> None:
    if "format" not in arrays or int(arrays["format"]) != _FORMAT:
        raise ValueError(f"window profile is not of format {_FORMAT}: count the window anew from the prediction log")
