"""Drift reports for people: one self-contained page, light enough to mail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from monitoring.backtest import BacktestResult
from monitoring.calibration import MEASURES, read_calibration
from monitoring.charts import BLUE, GREEN, GREY, ORANGE, Line, finite, heat_chart, line_chart, reliability_chart
from monitoring.core.types import Alert, DriftReport, Interval, ModelVersion, Outcome, Verdict
from monitoring.quality import blind_outcomes
from monitoring.stats.calibration import reliability_bins

MAX_WINDOWS = 120
MAX_ALERTS = 20
SEED = 0
"""The same labels make the same page."""


def render_report(
    reports: Sequence[DriftReport],
    version: ModelVersion,
    *,
    baseline_accuracy: float | None,
    leeway: float,
    alerts: Sequence[Alert],
    outcomes: Sequence[Outcome],
    made_at: datetime,
) -> str:
    """The page on `version`: its newest 120 `reports` (oldest first), newest 20 `alerts` and labelled `outcomes`."""
    kept = list(reports)[-MAX_WINDOWS:]
    times = [report.window_end for report in kept]
    accuracy = _accuracy_lines(kept, baseline_accuracy)
    blind = blind_outcomes(outcomes)
    return (
        _pages()
        .get_template("report.html")
        .render(
            version=version,
            reports=kept,
            latest=kept[-1] if kept else None,
            alerts=list(alerts)[:MAX_ALERTS],
            accuracy=accuracy,
            accuracy_chart=line_chart(
                times, accuracy, marks=[i for i, report in enumerate(kept) if report.verdict is Verdict.DRIFT]
            ),
            effect_chart=heat_chart(
                times, _effects([{f.signal: f.effect for f in report.findings} for report in kept]), full=2 * leeway
            ),
            leeway=leeway,
            labelled=len(blind),
            reliability_chart=_reliability(blind) if blind else None,
            calibration=read_calibration(outcomes, rng=np.random.default_rng(SEED)),
            calibration_names=MEASURES,
            made_at=made_at,
        )
    )


def render_backtest(result: BacktestResult, *, name: str, leeway: float, made_at: datetime) -> str:
    """The page on a replay of the file `name`."""
    windows = result.windows
    accuracy = [
        Line("true accuracy", GREEN, [window.true_accuracy for window in windows]),
        Line(
            "estimated without labels",
            BLUE,
            [window.estimated_accuracy for window in windows],
            [window.estimate_low for window in windows],
            [window.estimate_high for window in windows],
        ),
    ]
    if result.summary["retrainings"]:
        accuracy.append(
            Line("true accuracy, never retrained", ORANGE, [window.static_accuracy for window in windows], dashed=True)
        )
    times = [window.start for window in windows]
    return (
        _pages()
        .get_template("backtest.html")
        .render(
            name=name,
            windows=windows,
            summary=result.summary,
            accuracy=accuracy,
            accuracy_chart=line_chart(times, accuracy, marks=[i for i, window in enumerate(windows) if window.alarm]),
            effect_chart=heat_chart(times, _effects([window.signals for window in windows]), full=2 * leeway),
            leeway=leeway,
            made_at=made_at,
        )
    )


def _accuracy_lines(reports: Sequence[DriftReport], baseline: float | None) -> list[Line]:
    estimated = [report.estimated_accuracy for report in reports]
    realised = [report.realised_accuracy for report in reports]
    lines = [
        _interval_line("estimated without labels", BLUE, estimated),
        _interval_line("realised, by labels", GREEN, realised),
    ]
    if baseline is not None:
        lines.append(Line("baseline", GREY, [baseline] * len(reports), dashed=True))
    return lines


def _interval_line(name: str, colour: str, intervals: Sequence[Interval | None]) -> Line:
    def column(bound: str) -> list[float | None]:
        return [None if interval is None else getattr(interval, bound) for interval in intervals]

    return Line(name, colour, column("value"), column("low"), column("high"))


def _effects(windows: Sequence[Any]) -> list[tuple[str, list[float | None]]]:
    """Each signal that any window knows, with its effect in every window."""
    names = dict.fromkeys(name for window in windows for name in window)
    return [(name, [window.get(name) for window in windows]) for name in names]


def _reliability(blind: Sequence[Outcome]) -> str:
    confidence = np.array([outcome.confidence for outcome in blind])
    return reliability_chart(reliability_bins(confidence, np.array([outcome.correct for outcome in blind]), bins=10))


@cache
def _pages() -> Environment:
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"share": _share, "interval": _interval, "moment": _moment}
    return pages


def _share(value: float | None) -> str:
    return f"{value:.1%}" if finite(value) else "–"


def _interval(interval: Interval | None) -> str:
    if interval is None or not finite(interval.value):
        return "–"
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _moment(moment: datetime | None) -> str:
    return "open" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
