"""What the bench prints is what it measured."""

from __future__ import annotations

import json
import math

import pytest

from tests.benchmarks.verdicts import tables
from tests.benchmarks.verdicts.accuracy import Estimates
from tests.benchmarks.verdicts.accuracy import add_up as add_up_estimates
from tests.benchmarks.verdicts.bursts import Bursts, Kind
from tests.benchmarks.verdicts.calibration import Reading
from tests.benchmarks.verdicts.costs import Costs
from tests.benchmarks.verdicts.draws import ACCURACY_SCENARIOS, NONE, STREAM_SCENARIOS, WINDOW_SCENARIOS, WINDOW_SIZES
from tests.benchmarks.verdicts.extremes import Extreme
from tests.benchmarks.verdicts.rivals import Played
from tests.benchmarks.verdicts.streams import THRESHOLD, Delay, NullStreams, add_up_delays, add_up_nulls, detector_name
from tests.benchmarks.verdicts.weeks import KINDS, Weeks
from tests.benchmarks.verdicts.windows import ANY, DRIFT, Alarms

WINDOWS = {"far_100", "far_500", "far_2000", "far_20000"}
STREAMS = {"null_predictions", "null_alarms", "bound", "delay_1", "found_1", "delay_5", "delay_20", "delay_50"}
NEAR_STREAMS = {"near_5", "near_20"}
ESTIMATES = {"accuracy_error_none", "accuracy_error_20", "accuracy_error_50", "coverage_none"}
COST = {"cpu_s_per_million", "state_kb", "merge_ms"}
COSTS = Costs(100_000, 4.5, 3.0, 3.5, 0.1, 40.0, 30.0, 0.2, 25.0, 1e4, 1e4, 1e4)


@pytest.fixture
def measured() -> tables.Measured:
    """One of everything, the rivals with a missing one among them."""
    windows = [
        Alarms(detector, scenario.name, n, 2 if scenario.name == NONE else 90, 1000 if scenario.name == NONE else 100)
        for detector in (ANY, DRIFT)
        for scenario in WINDOW_SCENARIOS
        for n in WINDOW_SIZES
    ]
    rival = {"detector": "Other: any", "scenario": NONE, "n": 500, "alarms": 45, "windows": 50}
    return tables.Measured(
        windows=windows,
        extremes=[Extreme(None, 1_000_000, 0, 5), Extreme(200, 500, 2, 1000)],
        bursts=[Bursts(Kind(2_000, 5, 60), 990, 2, 1000), Bursts(Kind(500, new=0.05), 985, 970, 1000)],
        nulls=[NullStreams(300, THRESHOLD, 4_000_000, 3), NullStreams(300, 1e4, 400_000, 30)],
        delays=[Delay(detector_name(THRESHOLD), s.name, (10.0, 30.0, 20.0), 0) for s in STREAM_SCENARIOS],
        estimates=[
            Estimates(method, s.name, (0.9, 0.8), (0.8, 0.8), (True, False), (False, False))
            for method in (tables.WITHOUT, tables.WITH)
            for s in ACCURACY_SCENARIOS
        ],
        weeks=[
            Weeks(kind.name, 2, 8, 0, ((24, 140), (0, 140), (70, 140)), (100.0, 104.0))
            for kind in (KINDS[1], KINDS[-1])
        ],
        readings=[Reading("smECE", n, 0.01, 0.02, 100) for n in WINDOW_SIZES],
        costs=COSTS,
        rivals=[
            Played(
                "other",
                "1.2",
                windows=[rival],
                delays=[{"detector": "Other", "scenario": "far 5 %", "delays": [100, None, None], "early": 1}],
            ),
            Played("gone", missing="not installed: no wheel"),
        ],
    )


def test_the_last_line_has_every_figure_that_a_goal_is_set_for(measured: tables.Measured) -> None:
    figures = tables.summary(measured)
    assert WINDOWS | STREAMS | NEAR_STREAMS | ESTIMATES | COST <= figures.keys()
    assert json.loads(json.dumps(figures)) == figures
    assert figures["far_500"] == 0.002
    assert (figures["null_predictions"], figures["null_alarms"], figures["bound"]) == (4_000_000, 3, 4.0)
    assert (figures["delay_5"], figures["found_1"]) == (20.0, 1.0)
    assert figures["accuracy_error_none"] == pytest.approx(5.0)
    assert figures["coverage_none"] == 0.5


def test_a_median_that_was_not_reached_is_no_number(measured: tables.Measured) -> None:
    slow = [Delay(row.detector, row.scenario, (100.0, math.inf, math.inf), 0) for row in measured.delays]
    figures = tables.summary(tables.Measured(**{**vars(measured), "delays": slow}))
    assert figures["delay_1"] is None
    assert figures["found_1"] == pytest.approx(1 / 3)


def test_rivals_stand_beside_ours_and_a_missing_one_says_why(measured: tables.Measured) -> None:
    report = tables.report(measured)
    assert "| Other: any |  | .90 (50) |  |  |" in report
    assert "| verdict DRIFT | .002 (1,000) |" in report
    assert "| Other |  | 33 % found, 1 false before |" in report
    assert "| gone | not installed: no wheel |" in report


def test_few_windows_are_told_with_how_little_they_bound(measured: tables.Measured) -> None:
    report = tables.report(measured)
    assert "| the model's own | 1,000,000 | 5 | 0 | 0 to .522 |" in report
    assert "| 200 | 500 | 1,000 | 2 | .0002 to .0072 |" in report


def test_the_weeks_are_told_span_by_span(measured: tables.Measured) -> None:
    report = tables.report(measured)
    assert "| cycle | 2 | 8; 0 | 24 of 140 | 0 of 140 | 70 of 140 |  |" in report
    assert "| cycle, then far 5 % | 2 | 8; 0 | 24 of 140 | 0 of 140 | 70 of 140 | 102 |" in report


def test_parts_of_the_processes_add_up() -> None:
    assert add_up_nulls([NullStreams(300, 1e6, 10, 1), NullStreams(300, 1e6, 20, 2)]) == [NullStreams(300, 1e6, 30, 3)]
    parts = [Delay("a", "far 5 %", (1.0,), 1), Delay("a", "far 5 %", (2.0,), 0), Delay("b", "far 5 %", (3.0,), 0)]
    assert add_up_delays(parts) == [Delay("a", "far 5 %", (1.0, 2.0), 1), Delay("b", "far 5 %", (3.0,), 0)]
    one = Estimates("a", NONE, (0.5,), (0.6,), (True,), (False,))
    assert add_up_estimates([one, one]) == [Estimates("a", NONE, (0.5,) * 2, (0.6,) * 2, (True,) * 2, (False,) * 2)]


def test_a_table_without_rows_is_not_printed() -> None:
    assert tables.markdown("Nothing", ["a"], []) == ""
