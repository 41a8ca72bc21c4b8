"""What was measured, as Markdown tables and as one line of JSON. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tests.benchmarks.verdicts.accuracy import LABELS, Estimates
from tests.benchmarks.verdicts.bursts import Bursts
from tests.benchmarks.verdicts.calibration import Reading
from tests.benchmarks.verdicts.costs import Costs
from tests.benchmarks.verdicts.draws import ACCURACY_SCENARIOS, NONE, STREAM_SCENARIOS, WINDOW_SCENARIOS, WINDOW_SIZES
from tests.benchmarks.verdicts.extremes import Extreme
from tests.benchmarks.verdicts.rivals import Played
from tests.benchmarks.verdicts.streams import THRESHOLD, Delay, NullStreams, detector_name
from tests.benchmarks.verdicts.weeks import KINDS, Weeks
from tests.benchmarks.verdicts.windows import ALPHA, ANY, DRIFT, Alarms

WITHOUT, WITH = "without labels", f"with {LABELS} labels"


@dataclass(frozen=True)
class Measured:
    """Everything of one run."""

    windows: Sequence[Alarms]
    extremes: Sequence[Extreme]
    bursts: Sequence[Bursts]
    nulls: Sequence[NullStreams]
    delays: Sequence[Delay]
    weeks: Sequence[Weeks]
    estimates: Sequence[Estimates]
    readings: Sequence[Reading]
    costs: Costs
    rivals: Sequence[Played]


def markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table under its title; '' without rows.

    >>> print(markdown("Speed", ["who", "km/h"], [["hare", "70"]]))
    **Speed**
    <BLANKLINE>
    | who | km/h |
    |---|---|
    | hare | 70 |
    <BLANKLINE>
    """
    if not rows:
        return ""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"**{title}**", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *lines, ""])


def report(measured: Measured) -> str:
    """All tables."""
    return "\n".join(
        table
        for table in (
            false_alarms(measured),
            power(measured),
            extremes(measured.extremes),
            bursts(measured.bursts),
            null_streams(measured),
            delays(measured),
            weeks(measured),
            accuracy(measured),
            calibration(measured),
            costs(measured),
            rivals(measured),
        )
        if table
    )


def all_windows(measured: Measured) -> list[Alarms]:
    """Ours, then the rivals'."""
    return [*measured.windows, *(Alarms(**counted) for rival in measured.rivals for counted in rival.windows)]


def false_alarms(measured: Measured) -> str:
    """Alarms per window without drift, and of how many windows."""
    cells = {(c.detector, c.n): c for c in all_windows(measured) if c.scenario == NONE and c.windows}
    rows = [
        [name, *(_of(cells.get((name, n))) for n in WINDOW_SIZES)] for name in dict.fromkeys(name for name, _ in cells)
    ]
    return markdown("False alarms per window with no drift (windows)", ["", *_sizes()], rows)


def power(measured: Measured) -> str:
    """Share of windows found at each share of the far topic."""
    drifts = [scenario.name for scenario in WINDOW_SCENARIOS if scenario.topic != NONE]
    cells = {(c.detector, c.scenario, c.n): c for c in all_windows(measured) if c.windows}
    names = dict.fromkeys(name for name, scenario, _ in cells if scenario != NONE)
    rows = [
        [name, *("/".join(_share(cells.get((name, drift, n))) for drift in drifts) for n in WINDOW_SIZES)]
        for name in names
    ]
    return markdown("Power at 5 / 20 / 50 % of the far topic", ["", *_sizes()], rows)


def extremes(counted: Sequence[Extreme]) -> str:
    """False alarms with few and many classes, and in very large windows."""
    rows = [
        [
            "the model's own" if part.classes is None else str(part.classes),
            f"{part.n:,}",
            f"{part.windows:,}",
            str(part.alarms),
            " to ".join(_bound(bound) for bound in part.interval),
        ]
        for part in counted
    ]
    columns = ["classes", "n", "windows", "with a significant finding", "95 % interval of their share"]
    return markdown(f"No drift, few and many classes, very large windows; {ALPHA:.4f} may be spent", columns, rows)


def bursts(counted: Sequence[Bursts]) -> str:
    """Windows with a significant finding, were rows independent and as they are taken."""
    rows = [
        [
            f"{part.n:,}",
            f"{part.kind.bursts} x {part.kind.rows}" if part.kind.bursts else "none",
            f"{100 * part.kind.new:.0f} %" if part.kind.new else "none",
            *(_share(Alarms("", "", part.n, alarms, part.windows)) for alarms in (part.independent, part.dependent)),
            f"{part.windows:,}",
        ]
        for part in counted
    ]
    columns = [
        "n",
        "bursts x rows of one topic in a minute",
        "far topic",
        "rows independent",
        "by time block",
        "windows",
    ]
    return markdown("Bursts: windows with a significant finding, 10,000 predictions a day", columns, rows)


def null_streams(measured: Measured) -> str:
    """False alarms of sequential detectors; ours against the bound."""
    rows = [
        [
            f"{detector_name(part.threshold)}, baseline {part.baseline:,}",
            f"{part.predictions:,}",
            str(part.alarms),
            f"{part.interval[0]:.1f} to {part.interval[1]:.1f}",
            f"{part.bound:.1f}",
        ]
        for part in measured.nulls
    ]
    rows += [
        [null["detector"], f"{null['predictions']:,}", str(null["alarms"]), "", "none stated"]
        for rival in measured.rivals
        for null in rival.nulls
    ]
    columns = ["", "predictions without drift", "alarms", "95 % interval of their mean", "bound on their mean"]
    return markdown("Sequential: false alarms", columns, rows)


def delays(measured: Measured) -> str:
    """Median (p90) delay, and the share found where it is not all."""
    theirs = [
        Delay(
            row["detector"],
            row["scenario"],
            tuple(math.inf if delay is None else delay for delay in row["delays"]),
            row["early"],
        )
        for rival in measured.rivals
        for row in rival.delays
    ]
    cells = {(row.detector, row.scenario): row for row in [*measured.delays, *theirs]}
    rows = [
        [name, *(_delay(cells.get((name, scenario.name))) for scenario in STREAM_SCENARIOS)]
        for name in dict.fromkeys(name for name, _ in cells)
    ]
    title = "Sequential: predictions from the change to the alarm, median (p90), share found within 10,000"
    return markdown(title, ["", *(scenario.name for scenario in STREAM_SCENARIOS)], rows)


def weeks(measured: Measured) -> str:
    """Alarms of the detector, and windows with verdict DRIFT, while the week's cycle is learned and after."""
    rows = [
        [
            part.kind,
            str(part.streams),
            f"{part.early}; {part.late}",
            *(f"{drifts} of {windows}" for drifts, windows in part.drift),
            "" if part.kind != KINDS[-1].name else f"{float(np.median(part.delays)):,.0f}",
        ]
        for part in measured.weeks
    ]
    columns = [
        "",
        "streams",
        "detector's alarms, weeks 1-2; 3-4",
        "DRIFT windows, weeks 1-2",
        "weeks 3-4",
        "weeks 5-6",
        "median delay of the detector",
    ]
    return markdown("Six weeks at 5,000 predictions a day, the default budget, windows of 500", columns, rows)


def accuracy(measured: Measured) -> str:
    """Errors of the estimate, and what its interval is worth."""
    theirs = [
        Estimates(row["method"], row["scenario"], tuple(row["value"]), tuple(row["truth"]), (), ())
        for rival in measured.rivals
        for row in rival.estimates
    ]
    cells = {(row.method, row.scenario): row for row in [*measured.estimates, *theirs]}
    rows = []
    for scenario in ACCURACY_SCENARIOS:
        ours = [cells.get((method, scenario.name)) for method in (WITHOUT, WITH)]
        if ours[0] is None:
            continue
        row = [f"{scenario.name} ({100 * sum(ours[0].truth) / len(ours[0].truth):.1f})"]
        for own in ours:
            row += ["", "", "", ""] if own is None else _estimate(own)
        rival = cells.get(("NannyML CBPE", scenario.name))
        rows.append([*row, "" if rival is None else f"{rival.error:.1f}"])
    columns = ["true accuracy under"]
    for method in (WITHOUT, WITH):
        columns += [f"Leeway, {method}: error", "bias", "covered", "cannot tell"]
    return markdown(
        "Accuracy estimation, mean absolute error in points, n = 500, 2,000 labelled rows in the baseline",
        [*columns, "NannyML CBPE: error"],
        rows,
    )


def calibration(measured: Measured) -> str:
    """What each measure reads where nothing is wrong."""
    cells = {(reading.measure, reading.n): reading for reading in measured.readings}
    rows = [
        [name, *(f"{cells[name, n].mean:.3f} ({cells[name, n].high:.3f})" for n in WINDOW_SIZES if (name, n) in cells)]
        for name in dict.fromkeys(name for name, _ in cells)
    ]
    title = "Calibration read on a perfectly calibrated model, mean (95th percentile)"
    return markdown(title, ["", *_sizes()], rows)


def costs(measured: Measured) -> str:
    """Ours by the piece; the rivals' for one large window."""
    cost = measured.costs
    ours = [
        ["a window's state, batches of 32, embeddings included", _per_million(cost.state_cpu_s_per_million)],
        ["the detector, batches of 32", _per_million(cost.detector_cpu_s_per_million)],
        ["both, ticks of 500", _per_million(cost.tick_cpu_s_per_million)],
        ["memory gained over the second half", f"{cost.memory_growth_mb:.1f} MB of {cost.watched:,} predictions"],
        ["state of a window", f"{cost.window_state_kb:.1f} kB"],
        ["state of the detector", f"{cost.detector_state_kb:.1f} kB"],
        ["merging two windows", f"{cost.merge_ms:.3f} ms"],
        ["verdict on a window of 500", f"{cost.window_ms:.1f} CPU ms"],
        ["spooled, 8 rows a write", f"{cost.spooled_rows_per_second:,.0f} rows/s"],
        ["shipped to the Delta table", f"{cost.shipped_rows_per_second:,.0f} rows/s"],
        ["read back", f"{cost.read_rows_per_second:,.0f} rows/s"],
    ]
    theirs = [
        [f"{row['what']}: one window of {row['rows']:,} rows", f"{row['cpu_s']:.1f} CPU s, {row['peak_gb']:.2f} GB"]
        for rival in measured.rivals
        for row in rival.costs
    ]
    return markdown("Cost", ["", ""], [*ours, *theirs])


def rivals(measured: Measured) -> str:
    """Which versions were measured, and which could not be."""
    rows = [[rival.name, rival.missing or rival.version] for rival in measured.rivals]
    return markdown("Rivals", ["", "version"], rows)


def summary(measured: Measured) -> dict[str, Any]:
    """The figures that goals are set for; a delay is None where half of the streams or more have no alarm."""
    far = {c.n: c for c in measured.windows if (c.detector, c.scenario) == (ANY, NONE)}
    drift = {c.n: c for c in measured.windows if (c.detector, c.scenario) == (DRIFT, NONE)}
    main = [part for part in measured.nulls if part.threshold == THRESHOLD]
    delay = {row.scenario: row for row in measured.delays if row.detector == detector_name(THRESHOLD)}
    error = {row.scenario: row for row in measured.estimates if row.method == WITHOUT}
    return {
        **{f"far_{n}": far[n].share for n in WINDOW_SIZES},
        "null_predictions": sum(part.predictions for part in main),
        "null_alarms": sum(part.alarms for part in main),
        "bound": sum(part.bound for part in main),
        "delay_1": _median(delay["far 1 %"]),
        "found_1": delay["far 1 %"].found,
        **{f"delay_{share}": _median(delay[f"far {share} %"]) for share in (5, 20, 50)},
        **{f"near_{share}": _median(delay[f"near {share} %"]) for share in (5, 20)},
        "accuracy_error_none": error[NONE].error,
        "accuracy_error_20": error["far 20 %"].error,
        "accuracy_error_50": error["far 50 %"].error,
        "coverage_none": error[NONE].coverage,
        "cpu_s_per_million": measured.costs.cpu_s_per_million,
        "state_cpu_s_per_million": measured.costs.state_cpu_s_per_million,
        "state_kb": measured.costs.window_state_kb,
        "merge_ms": measured.costs.merge_ms,
        **{f"drift_verdicts_{n}": drift[n].share for n in WINDOW_SIZES},
        "detector_state_kb": measured.costs.detector_state_kb,
        "memory_growth_mb": measured.costs.memory_growth_mb,
        "window_ms": measured.costs.window_ms,
        "rivals": {rival.name: rival.missing or rival.version for rival in measured.rivals},
    }


def archive(measured: Measured) -> Mapping[str, Any]:
    """Everything as JSON, for whoever wants to look closer."""
    return asdict(measured)


def _sizes() -> list[str]:
    return [f"n={n:,}" for n in WINDOW_SIZES]


def _of(counted: Alarms | None) -> str:
    return "" if counted is None else f"{_share(counted)} ({counted.windows:,})"


def _share(counted: Alarms | None) -> str:
    """
    >>> _share(Alarms("a", "none", 100, 3, 1000)), _share(Alarms("a", "none", 100, 5, 50)), _share(None)
    ('.003', '.10', '–')
    """
    if counted is None:
        return "–"
    digits = 3 if counted.windows >= 200 and 0 < counted.share < 0.1 else 2
    whole = counted.share in (0.0, 1.0)
    return f"{counted.share:.0f}" if whole else f"{counted.share:.{digits}f}".removeprefix("0")


def _bound(share: float) -> str:
    """
    >>> _bound(0.0), _bound(0.00024), _bound(0.5218)
    ('0', '.0002', '.522')
    """
    return f"{share:.{4 if share < 0.1 else 3}f}".removeprefix("0") if share else "0"


def _per_million(cpu_s: float) -> str:
    return f"{cpu_s:.1f} CPU s per million predictions"


def _delay(row: Delay | None) -> str:
    if row is None or not row.delays:
        return ""
    median, high = row.quantile(0.5), row.quantile(0.9)
    found = "" if row.found == 1 else f", {100 * row.found:.0f} % found"
    early = f", {row.early} false before" if row.early else ""
    if math.isinf(median):
        return f"{100 * row.found:.0f} % found{early}" if row.found else f"missed{early}"
    return f"{median:,.0f} ({'–' if math.isinf(high) else f'{high:,.0f}'}){found}{early}"


def _median(row: Delay) -> float | None:
    median = row.quantile(0.5)
    return None if math.isinf(median) else median


def _estimate(row: Estimates) -> list[str]:
    unsure = sum(row.cannot_tell) / len(row.cannot_tell)
    return [f"{row.error:.1f}", f"{row.bias:+.1f}", f"{100 * row.coverage:.0f} %", f"{100 * unsure:.0f} %"]
