"""One budget of false alarms a year, and what each watcher may spend of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.core.settings import MonitorSettings

LARGEST_WINDOW_ALPHA = 0.05
LARGEST_LABEL_ALPHA = 0.01
JUDGED_LABELS = 5_000
LABEL_TESTS = 3  # of accuracy, of calibration, and of the accuracy of all declared slices together


@dataclass(frozen=True)
class Budget:
    """What the yearly false alarms come to.

    `sequential_threshold`: mean predictions between two of the detector; `window_alpha`: chance of one in a window, its
    slices included; `label_alpha`: chance of one in each test on JUDGED_LABELS labels.
    """

    sequential_threshold: float
    window_alpha: float
    label_alpha: float


def alarm_budget(settings: MonitorSettings) -> Budget:
    """Split the yearly budget between the per-prediction detector, the windows and the labels of an expected year.

    The labels' tests are counted as if every prediction were labelled, so that the budget holds for fewer as well.

    >>> budget = alarm_budget(MonitorSettings(false_alarms_per_year=1, predictions_per_day=10_000, window_size=500))
    >>> budget.sequential_threshold, round(1 / budget.window_alpha), round(1 / budget.label_alpha)
    (9125000.0, 18250, 10950)
    """
    yearly = 365 * settings.predictions_per_day
    alarms = settings.false_alarms_per_year
    of_windows = alarms * (1 - settings.sequential_share - settings.label_share)
    of_a_label_test = alarms * settings.label_share / LABEL_TESTS
    return Budget(
        sequential_threshold=max(yearly / (alarms * settings.sequential_share), 2.0),
        window_alpha=min(of_windows * settings.window_size / yearly, LARGEST_WINDOW_ALPHA),
        label_alpha=min(of_a_label_test / max(yearly / JUDGED_LABELS, 1.0), LARGEST_LABEL_ALPHA),
    )
