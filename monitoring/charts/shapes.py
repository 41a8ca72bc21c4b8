"""Plots that hold now beside the baseline: distributions, shares, words, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from monitoring.charts.svg import BLUE, GREY, area, box, curve, dot, finite, joined, picture, rule, share_grid, text
from monitoring.stats.binning import FloatArray, IntArray
from monitoring.stats.calibration import ReliabilityBin

SMALL_WIDTH, SMALL_HEIGHT = 280, 120
COLUMNS = 40
LEAST_SHOWN = 0.005
ROW = 24
NAME_WIDTH = 150
WIDTH = 440


def distribution_chart(edges: FloatArray, usual: IntArray, now: IntArray, *, name: str) -> Markup:
    """How a signal is distributed: the baseline as an area, now as a line, from counts (bins,) by frozen edges.

    What lies beyond the range shown is drawn in the outermost column, which says so, and nothing is hidden.
    """
    if len(edges) < 2 or usual[:-1].sum() == 0 or now[:-1].sum() == 0:
        return picture(SMALL_WIDTH, SMALL_HEIGHT, [text(8, 60, "one value only, or none")], name)
    low, high = _range_shown(edges, usual + now)
    grid = np.linspace(low, high, COLUMNS + 1)
    usual_mass, now_mass = _mass(edges, usual, grid), _mass(edges, now, grid)
    top, bottom = 6.0, SMALL_HEIGHT - 20.0
    tallest = float(max(usual_mass.max(), now_mass.max()))

    def outline(mass: FloatArray) -> list[tuple[float, float]]:
        width = SMALL_WIDTH / COLUMNS
        heights = bottom - (bottom - top) * mass / tallest
        return [
            (place, float(y)) for i, y in enumerate(heights) for place in (i * width, (i + 1) * width)
        ]  # steps, since bins have no shape within

    shape = [(0.0, bottom), *outline(usual_mass), (float(SMALL_WIDTH), bottom)]
    below, above = _beyond(edges, usual + now, low, high)
    parts = [
        area(" ".join(f"{x:.1f},{y:.1f}" for x, y in shape), f"usual {GREY}"),
        curve(outline(now_mass), BLUE),
        rule((0, bottom), (SMALL_WIDTH, bottom)),
        text(0, SMALL_HEIGHT - 5, f"{'≤ ' if below else ''}{_shown(low, high - low)}"),
        text(SMALL_WIDTH, SMALL_HEIGHT - 5, f"{'≥ ' if above else ''}{_shown(high, high - low)}", "end"),
    ]
    return picture(SMALL_WIDTH, SMALL_HEIGHT, parts, f"distribution of {name}, baseline and now")


def shares_chart(rows: Sequence[Mapping[str, Any]], *, before: str, after: str, name: str, form: str) -> Markup:
    """From the value `before` to that `after`, one row for each thing `name`d; numbers are written as `form` says."""
    largest = max((float(row[key]) for row in rows for key in (before, after)), default=1.0) or 1.0
    parts = []

    def x(value: float) -> float:
        return NAME_WIDTH + (WIDTH - NAME_WIDTH - 110) * value / largest

    for number, row in enumerate(rows):
        y = 6 + ROW * number + ROW / 2
        usual, now = float(row[before]), float(row[after])
        said = f"{format(usual, form)} → {format(now, form)}"
        parts += [
            text(NAME_WIDTH - 10, y + 4, _cut(str(row[name])), "end", "name"),
            rule((NAME_WIDTH, y), (x(largest), y)),
            rule((x(usual), y), (x(now), y), f"whisker {BLUE}"),
            dot((x(usual), y), GREY, radius=4.5, hint=f"baseline {format(usual, form)}"),
            dot((x(now), y), BLUE, radius=5, hint=f"now {format(now, form)}"),
            text(WIDTH - 4, y + 4, said, "end"),
        ]
    return picture(WIDTH, 12 + ROW * len(rows), parts, "baseline and now")


def reliability_chart(bins: Sequence[ReliabilityBin]) -> Markup:
    """Accuracy against stated confidence, with 95 % intervals; the diagonal is perfect calibration."""
    side, left, right, top, bottom = 320, 48, 10, 10, 30

    def x(value: float) -> float:
        return left + (side - left - right) * value

    def y(value: float) -> float:
        return top + (side - top - bottom) * (1 - value)

    parts = [share_grid(0.0, 1.0, y, left=left, right=side - right)]
    parts.append(curve([(x(0), y(0)), (x(1), y(1))], GREY, dashed=True))
    parts += [text(x(tick), side - 10, f"{tick:.0%}", "end" if tick == 1.0 else "middle") for tick in (0.0, 0.5, 1.0)]
    most = max((item.n for item in bins), default=1)
    for item in bins:
        height = 26 * item.n / most
        parts.append(box((x(item.low), y(0) - height), x(item.high) - x(item.low) - 1, height, f"usual {GREY}"))
    for item in bins:
        at = x(item.mean_confidence)
        hint = f"{item.n} answers at {item.mean_confidence:.0%}: {item.accuracy:.0%} right"
        parts += [
            rule((at, y(item.accuracy_low)), (at, y(item.accuracy_high)), f"whisker {BLUE}"),
            dot((at, y(item.accuracy)), BLUE, radius=4, hint=hint),
        ]
    return picture(side, side, parts, "accuracy against confidence")


def effect_bar(effect: float, leeway: float, *, significant: bool) -> Markup:
    """How far an effect goes on a scale to twice the leeway, which is marked in its middle."""
    if not finite(effect):
        return joined([])
    width = 120 * min(effect / (2 * leeway), 1.0)
    kind = "cell" if significant else "usual grey"
    parts = [
        box((0, 2), 120, 8, "track"),
        box((0, 2), width, 8, kind),
        rule((60, 0), (60, 12), "mark ink", "the leeway"),
    ]
    return picture(120, 12, parts, f"effect {effect:.3f}, leeway {leeway:g}")


def _shown(value: float, spread: float) -> str:
    """The end of an axis; what rounding made of nought is nought."""
    return f"{0.0 if abs(value) < spread / 1_000 else value:.3g}"


def _range_shown(edges: FloatArray, counts: IntArray) -> tuple[float, float]:
    """All but half a per cent of the rows on either side."""
    below = np.cumsum(counts[:-1]) / counts[:-1].sum()
    first = int(np.searchsorted(below, LEAST_SHOWN))
    last = int(np.searchsorted(below, 1.0 - LEAST_SHOWN))
    low, high = float(edges[max(first - 1, 0)]), float(edges[min(last, len(edges) - 1)])
    return (low, high) if high > low else (float(edges[0]), float(edges[-1]))


def _beyond(edges: FloatArray, counts: IntArray, low: float, high: float) -> tuple[bool, bool]:
    """Whether there are more than a few rows below and above the range."""
    first, last = np.searchsorted(edges, [low, high], side="right")
    few = LEAST_SHOWN * counts[:-1].sum()
    return bool(counts[:first].sum() > few), bool(counts[last:-1].sum() > few)


def _mass(edges: FloatArray, counts: IntArray, grid: FloatArray) -> FloatArray:
    """Shares of the rows between the points of `grid`, those within a bin spread evenly over it."""
    below = np.cumsum(counts[:-1]) / counts[:-1].sum()
    cumulated = np.interp(grid, edges, below[: len(edges)])
    cumulated[0], cumulated[-1] = 0.0, 1.0
    mass: FloatArray = np.diff(cumulated)
    return mass


def _cut(name: str, letters: int = 22) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"
