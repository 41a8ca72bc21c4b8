"""Our verdict on windows: false alarms where nothing changed, and how often a new topic is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from monitoring.core.settings import MonitorSettings
from monitoring.core.types import Verdict
from monitoring.detect import judge_window
from tests.benchmarks.verdicts.draws import NONE, WINDOW_SCENARIOS, WINDOW_SIZES, Extent, Scenario
from tests.benchmarks.verdicts.scored import load

BASELINE_ROWS = 20_000
ALPHA = 1 / 365
"""What one window may spend: a false alarm a year, were there a window a day."""
ANY, DRIFT = "any significant finding", "verdict DRIFT"


@dataclass(frozen=True)
class Alarms:
    """`alarms` of `windows` windows of one size under one scenario, by one detector."""

    detector: str
    scenario: str
    n: int
    alarms: int
    windows: int

    @property
    def share(self) -> float:
        """Alarms per window."""
        return self.alarms / self.windows


@dataclass(frozen=True)
class WindowTask:
    """All windows that are judged against the baseline of that number."""

    scored: Path
    extent: Extent
    number: int

    def windows(self) -> Iterator[tuple[Scenario, int, range]]:
        """Scenario, size and the numbers of the windows; those of all tasks together are each window once."""
        for scenario in WINDOW_SCENARIOS:
            for n in WINDOW_SIZES:
                total = self.extent.runs if scenario.topic == NONE else self.extent.power_windows(n)
                yield scenario, n, range(self.number, total, self.extent.baselines)


def tasks(scored: Path, extent: Extent) -> list[WindowTask]:
    """One for each baseline."""
    return [WindowTask(scored, extent, number) for number in range(extent.baselines)]


def judge(task: WindowTask) -> list[Alarms]:
    """Verdicts and findings of the task's windows, counted."""
    scored, settings = load(task.scored), MonitorSettings()
    baseline = scored.baseline(BASELINE_ROWS, task.number)
    counted: list[Alarms] = []
    for scenario, n, numbers in task.windows():
        found = {ANY: 0, DRIFT: 0}
        for number in numbers:
            window = scored.traffic(scored.urns.window(n, scenario, number))
            report = judge_window(baseline, window, model="bench", version="1", settings=settings, alpha=ALPHA)
            found[ANY] += any(finding.significant for finding in report.findings)
            found[DRIFT] += report.verdict is Verdict.DRIFT
        counted += [Alarms(name, scenario.name, n, alarms, len(numbers)) for name, alarms in found.items()]
    return counted


def add_up(counted: list[Alarms]) -> list[Alarms]:
    """One per detector, scenario and size, in the order of their first appearance.

    >>> parts = [Alarms("a", "none", 100, 1, 50), Alarms("a", "none", 500, 0, 50), Alarms("a", "none", 100, 2, 50)]
    >>> [(sum.n, sum.alarms, sum.windows) for sum in add_up(parts)]
    [(100, 3, 100), (500, 0, 50)]
    """
    sums: dict[tuple[str, str, int], Alarms] = {}
    for part in counted:
        key = part.detector, part.scenario, part.n
        so_far = sums.get(key, Alarms(*key, 0, 0))
        sums[key] = Alarms(*key, so_far.alarms + part.alarms, so_far.windows + part.windows)
    return [total for total in sums.values() if total.windows]
