"""The page on a replayed past: what the policy would have done, and would do under other settings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup

from monitoring.backtest import BacktestResult
from monitoring.charts.svg import BLUE, GREEN, GREY, ORANGE
from monitoring.charts.time import Course, Line, course_chart, heat_chart, line_chart
from monitoring.core.types import Verdict
from monitoring.pages import effects_by_signal, render
from monitoring.watched import WindowResult, iso

COLOURS = {Verdict.STABLE: GREEN, Verdict.NOTICE: BLUE, Verdict.DRIFT: ORANGE, Verdict.INCONCLUSIVE: GREY}


def render_backtest(result: BacktestResult, *, name: str, leeway: float, made_at: datetime) -> str:
    """The page on a replay of the file `name`."""
    windows = result.windows
    times = [window.start for window in windows]
    accuracy = _accuracy_lines(windows, retrained=bool(result.summary["retrainings"]))
    return render(
        "backtest.html",
        name=name,
        windows=windows,
        summary=result.summary,
        accuracy=accuracy,
        accuracy_chart=line_chart(times, accuracy, marks=[i for i, window in enumerate(windows) if window.alarm]),
        effect_chart=heat_chart(
            times,
            effects_by_signal([window.signals for window in windows], [window.moved for window in windows]),
            full=2 * leeway,
        ),
        what_if=result.what_if,
        colours=COLOURS,
        course_chart=_courses(result),
        leeway=leeway,
        made_at=made_at,
    )


def _courses(result: BacktestResult) -> Markup:
    """What was replayed, and what other settings would have made of the first model's answers."""
    judged = [window for window in result.windows if window.n]
    retrained = {item["at"] for item in result.summary["retrainings"]}
    replayed = Course(
        "as replayed",
        [COLOURS[window.verdict] for window in judged],
        [window.alarm for window in judged],
        [iso(window.end) in retrained for window in judged],
    )
    others = [
        Course(
            f"{outlook.false_alarms_per_year:g}/yr, {outlook.leeway:g}",
            [COLOURS[verdict] for verdict in outlook.verdicts],
            outlook.alarmed,
            [False] * len(judged),
        )
        for outlook in result.what_if
    ]
    return course_chart([window.start for window in judged], [replayed, *others])


def _accuracy_lines(windows: Sequence[WindowResult], *, retrained: bool) -> list[Line]:
    lines = [
        Line("true accuracy", GREEN, [window.true_accuracy for window in windows]),
        Line(
            "estimated by the monitor",
            BLUE,
            [window.estimated_accuracy for window in windows],
            [window.estimate_low for window in windows],
            [window.estimate_high for window in windows],
        ),
    ]
    if retrained:
        static = [window.static_accuracy for window in windows]
        lines.append(Line("true accuracy, never retrained", ORANGE, static, dashed=True))
    return lines
