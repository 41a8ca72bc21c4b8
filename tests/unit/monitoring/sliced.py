"""Windows of imaginary traffic that comes in slices, some of which differ from the rest all along."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from monitoring.baseline import Baseline
from monitoring.core.settings import MonitorSettings
from monitoring.core.types import DriftReport, Interval, Outcome, SliceFinding, Verdict
from monitoring.detect import judge_window
from monitoring.signals import Traffic
from monitoring.slice_memory import SliceMemory
from monitoring.slices import Metadata
from tests.unit.monitoring.synthetic import NOW, outcome_of, window_of


def with_metadata(window: Traffic, each: Sequence[Mapping[str, str]]) -> Traffic:
    """The window with the metadata of each of its rows."""
    kinds = [dict(kind) for kind in dict.fromkeys(tuple(sorted(row.items())) for row in each)]
    codes = np.array([kinds.index(dict(row)) for row in each])
    return dataclasses.replace(window, metadata=Metadata(codes, kinds))


def sliced_window(
    sizes: Mapping[str, int],
    rng: np.random.Generator,
    *,
    new_topic: Mapping[str, float] | None = None,
    key: str = "channel",
) -> Traffic:
    """A window of `sizes` rows of each value of `key`; of some a share `new_topic` is something unknown."""
    parts, values = [], []
    for value, size in sizes.items():
        part, _ = window_of(size, rng, new_topic=(new_topic or {}).get(value, 0.0))
        parts.append(part)
        values += [value] * size
    order = rng.permutation(len(values))
    joined = dataclasses.replace(
        parts[0],
        ids=[f"prediction-{number}" for number in range(len(values))],
        units=[f"prediction-{number}" for number in range(len(values))],
        predicted=np.concatenate([part.predicted for part in parts])[order],
        signals={name: np.concatenate([part.signals[name] for part in parts])[order] for name in parts[0].signals},
        projected=np.concatenate([part.projected for part in parts])[order],
        texts=[[text for part in parts for text in part.texts][row] for row in order],
    )
    return with_metadata(joined, [{key: values[row]} for row in order])


def judged(
    memory: SliceMemory,
    baseline: Baseline,
    window: Traffic,
    settings: MonitorSettings,
    *,
    alpha: float = 1e-4,
    outcomes: Sequence[Outcome] = (),
) -> tuple[DriftReport, SliceMemory]:
    """The report on a window, and the memory after it."""
    report = judge_window(
        baseline,
        window,
        model="support",
        version="v1",
        settings=settings,
        alpha=alpha,
        outcomes=outcomes,
        memory=memory,
    )
    return report, memory.after(baseline, window, report, settings.slices)


def stable(slices: tuple[SliceFinding, ...]) -> DriftReport:
    """A quiet report with these findings."""
    nothing = Interval(0.9, 0.8, 1.0)
    quiet = ("support", "v1", NOW, NOW, 500, Verdict.STABLE, "", 0.0, (), nothing, True, "", None, 0, {})
    return DriftReport(*quiet, slices=slices)


def labelled(name: str, right: Sequence[bool]) -> list[Outcome]:
    """Labels of answers in the slice `name`."""
    return [
        dataclasses.replace(
            outcome_of(f"{name} {number:05}", "billing", "billing" if good else "delivery"), slices=(name,)
        )
        for number, good in enumerate(right)
    ]
