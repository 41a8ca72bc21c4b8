"""What a version has shown, as rows for its page. Evidence is JSON from the trainer: parts of it may be missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.core.types import ModelVersion

HIGHER_IS_BETTER = {"accuracy": True, "macro_f1": True, "ece": False, "ece_debiased": False, "brier": False}
NAMES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "ece": "Calibration error",
    "ece_debiased": "Calibration error, debiased",
    "brier": "Brier score",
}
MEASURES = {
    "nll": "Negative log-likelihood, nats",
    "brier": "Brier score",
    "ece_debiased": "Calibration error, debiased",
    "smece": "Calibration error, smoothed",
    "classwise_ece": "Calibration error, class by class",
}
NOTICEABLE = 0.005


@dataclass(frozen=True)
class Compared:
    """One figure of candidate and champion; None where it is not known. `better` is None where they are as good.

    `is_share`: it is a share of something, for which points are the unit of differences.
    """

    name: str
    candidate: float | None
    champion: float | None
    difference: float | None
    better: bool | None
    n: int | None = None
    is_share: bool = True


@dataclass(frozen=True)
class Changes:
    """What is different about a version: what it learnt, and from how much."""

    added: Sequence[str]
    waiting: Mapping[str, int]
    new_labels: int | None
    train_rows: int | None


@dataclass(frozen=True)
class Gates:
    """The gates that a version met, and how many it passed."""

    results: Sequence[Mapping[str, Any]]
    passed: int

    @property
    def all_passed(self) -> bool:
        """Whether there were gates and none failed."""
        return bool(self.results) and self.passed == len(self.results)


@dataclass(frozen=True)
class Recalibration:
    """Old and new temperature; `parts`: name, rows and measures before and after of each part of the labels.

    `reliability`: for each bin of confidence its lower edge and what it held before and after.
    """

    before: float | None
    after: float | None
    parts: Sequence[tuple[str, int | None, Sequence[Mapping[str, Any]]]]
    reliability: Sequence[tuple[float, Mapping[str, Any] | None, Mapping[str, Any] | None]]


def gates(evidence: Mapping[str, Any]) -> Gates:
    """The failed ones first: they are what a person has to read."""
    results = sorted(evidence.get("gates") or [], key=lambda gate: bool(gate.get("passed")))
    return Gates(results, sum(bool(gate.get("passed")) for gate in results))


def metrics(evidence: Mapping[str, Any]) -> list[Compared]:
    """The overall figures."""
    candidate, champion = _sides(evidence)
    return [
        compare(
            NAMES[name],
            candidate.get(name),
            champion.get(name),
            higher_is_better=higher,
            is_share=name != "brier",
        )
        for name, higher in HIGHER_IS_BETTER.items()
        if name in candidate
    ]


def classes(evidence: Mapping[str, Any]) -> list[Compared]:
    """F1 of each class, those that lost most or are worst first; a class that one side lacks has no figure there."""
    candidate, champion = (side.get("per_class") or {} for side in _sides(evidence))
    rows = [
        compare(
            label,
            (candidate.get(label) or {}).get("f1"),
            (champion.get(label) or {}).get("f1"),
            n=(candidate.get(label) or champion.get(label) or {}).get("n"),
        )
        for label in sorted(candidate.keys() | champion.keys())
    ]
    return sorted(rows, key=_worst_first)


def slices(evidence: Mapping[str, Any]) -> list[Compared]:
    """Accuracy on each part of the traffic, those that lost most or are worst first."""
    found = evidence.get("slices") or []
    rows = [compare(str(row["slice"]), row.get("candidate"), row.get("champion"), n=row.get("n")) for row in found]
    return sorted(rows, key=_worst_first)


def recalibration(evidence: Mapping[str, Any]) -> Recalibration | None:
    """What changed, where nothing but the temperature did."""
    found = evidence.get("recalibration")
    if not found:
        return None
    temperature = found.get("temperature") or {}
    parts = [("Recent labels, held out from the fit", "recent"), ("The hold-out of its training", "old")]
    return Recalibration(
        before=_number(temperature.get("before")),
        after=_number(temperature.get("after")),
        parts=[(name, found[key].get("n"), _moved(found[key])) for name, key in parts if found.get(key)],
        reliability=_reliability(found.get("reliability") or {}),
    )


def _moved(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [{"name": MEASURES.get(name, name), **both} for name, both in (part.get("measures") or {}).items()]


def _reliability(sides: Mapping[str, Any]) -> list[tuple[float, Mapping[str, Any] | None, Mapping[str, Any] | None]]:
    """The bins of confidence that either side has, lowest first."""
    before, after = ({found["low"]: found for found in sides.get(name) or []} for name in ("before", "after"))
    return [(low, before.get(low), after.get(low)) for low in sorted(before.keys() | after.keys())]


def changes(version: ModelVersion) -> Changes:
    """From its evidence, or from its lineage where that is silent."""
    known = {**version.lineage, **(version.evidence.get("changes") or {})}
    return Changes(
        added=list(known.get("classes_added") or []),
        waiting=dict(known.get("classes_waiting") or {}),
        new_labels=known.get("new_labels"),
        train_rows=known.get("train_rows"),
    )


def compare(
    name: str,
    candidate: Any,
    champion: Any,
    *,
    higher_is_better: bool = True,
    is_share: bool = True,
    n: int | None = None,
) -> Compared:
    """Set two figures side by side; half a point is taken for no difference."""
    ours, theirs = _number(candidate), _number(champion)
    difference = None if ours is None or theirs is None else ours - theirs
    better = None if difference is None or abs(difference) < NOTICEABLE else (difference > 0) == higher_is_better
    return Compared(name, ours, theirs, difference, better, n, is_share)


def _sides(evidence: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    both = evidence.get("metrics") or {}
    return both.get("candidate") or {}, both.get("champion") or {}


def _worst_first(row: Compared) -> tuple[bool, float, str]:
    """By the difference; where there is none, by the candidate's own figure."""
    figure = row.candidate if row.difference is None else row.difference
    return (row.difference is None, math.inf if figure is None else figure, row.name)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
