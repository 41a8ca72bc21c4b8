"""Windows in which many clients ask about one topic within a minute: no drift, and no independent rows either.

Each window has its rows spread evenly over the time that it takes, and some bursts: minutes in which as many clients as
there are rows ask about a topic that is drawn at random, a usual one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from monitoring.detect import signal_findings
from monitoring.signals import Traffic
from tests.benchmarks.verdicts.draws import FAR, NONE, Extent
from tests.benchmarks.verdicts.scored import MOMENT, Scored, load
from tests.benchmarks.verdicts.windows import ALPHA, BASELINE_ROWS

A_DAY = 10_000
BURST_SECONDS = 60.0
LEEWAY = 0.1


@dataclass(frozen=True)
class Kind:
    """So many `bursts` of so many `rows` in a window of `n`; a share `new` of its other rows is of the far topic."""

    n: int
    bursts: int = 0
    rows: int = 0
    new: float = 0.0


KINDS = (
    Kind(500),
    Kind(500, 1, 40),
    Kind(500, 3, 40),
    Kind(2_000),
    Kind(2_000, 1, 60),
    Kind(2_000, 5, 60),
    Kind(2_000, 20, 30),
    Kind(500, new=0.05),
    Kind(2_000, new=0.02),
    Kind(2_000, new=0.05),
    Kind(2_000, 5, 60, new=0.05),
)


@dataclass(frozen=True)
class Bursts:
    """Windows of a kind with a significant finding: their rows taken for `independent`, and for `dependent` in time."""

    kind: Kind
    independent: int
    dependent: int
    windows: int

    @property
    def n(self) -> int:
        """Rows of a window."""
        return self.kind.n


@dataclass(frozen=True)
class Task:
    """All windows that are judged against the baseline of that number."""

    scored: Path
    extent: Extent
    number: int


def tasks(scored: Path, extent: Extent) -> list[Task]:
    """One for each baseline."""
    return [Task(scored, extent, number) for number in range(extent.baselines)]


def judge(task: Task) -> list[Bursts]:
    """Every window with and without its clock."""
    scored = load(task.scored)
    baseline = scored.baseline(BASELINE_ROWS, task.number)
    counted = []
    for place, kind in enumerate(KINDS):
        numbers = range(task.number, task.extent.runs, task.extent.baselines)
        found = [0, 0]
        for number in numbers:
            window = burst_window(scored, kind, np.random.default_rng([number, place]))
            for aware, traffic in enumerate((replace(window, seconds=None), window)):
                findings = signal_findings(baseline, traffic, leeway=LEEWAY, alpha=ALPHA)
                found[aware] += any(finding.significant for finding in findings)
        counted.append(Bursts(kind, *found, len(numbers)))
    return counted


def burst_window(scored: Scored, kind: Kind, rng: np.random.Generator) -> Traffic:
    """A window in order of time; each row is another client's."""
    pool = scored.places[NONE]
    labels = scored.labels[pool]
    span = kind.n / A_DAY * 86_400
    steady = kind.n - kind.bursts * kind.rows
    rows = np.where(rng.random(steady) < kind.new, rng.choice(scored.places[FAR], steady), rng.choice(pool, steady))
    topics = rng.choice(np.unique(labels), kind.bursts)
    rows = np.concatenate([rows, *(rng.choice(pool[labels == topic], kind.rows) for topic in topics)])
    began = np.repeat(rng.uniform(0, span - BURST_SECONDS, kind.bursts), kind.rows)
    at = np.concatenate([rng.uniform(0, span, steady), began + rng.uniform(0, BURST_SECONDS, len(began))])
    order = np.argsort(at, kind="stable")
    seconds = int(MOMENT.timestamp()) + at[order].astype(np.int64)
    return replace(scored.traffic(rows[order]), seconds=seconds)


def add_up(parts: Sequence[Bursts]) -> list[Bursts]:
    """One per kind."""
    total = []
    for kind in dict.fromkeys(part.kind for part in parts):
        of = [part for part in parts if part.kind == kind]
        sums = (sum(getattr(part, name) for part in of) for name in ("independent", "dependent", "windows"))
        total.append(Bursts(kind, *sums))
    return total
