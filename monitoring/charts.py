"""Small inline SVG plots: no script, no font, no request. Colours that everyone can tell apart (Okabe & Ito)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TypeGuard

from markupsafe import Markup, escape

from monitoring.stats.calibration import ReliabilityBin

BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#d55e00", "#009e73", "#cc3311", "#777777"
_Scale = Callable[[float], float]
WIDTH, HEIGHT = 760, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 30
MAX_TICKS = 6
LABEL_WIDTH = 96
ROW = 22


@dataclass(frozen=True)
class Line:
    """One curve over the windows: a value or None for each, with a band where `low` and `high` are given."""

    name: str
    colour: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    dashed: bool = False


def line_chart(times: Sequence[datetime], lines: Sequence[Line], *, marks: Sequence[int] = ()) -> Markup:
    """Shares over time; `marks`: numbers of the windows in which an alarm was raised."""
    known = [v for line in lines for values in (line.values, line.low, line.high) for v in values if finite(v)]
    low = math.floor(10 * min(known, default=0.0)) / 10
    high = max(math.ceil(10 * max(known, default=1.0)) / 10, low + 0.1)

    def x(number: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (number + 0.5) / max(len(times), 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [_grid(low, high, y), _dates(times, x)]
    for number in marks:
        parts.append(_mark(x(number)))
    for line in lines:
        points = [(x(i), y(v)) if finite(v) else None for i, v in enumerate(line.values)]
        edges = [
            (x(i), y(a), y(b)) if finite(a) and finite(b) else None
            for i, (a, b) in enumerate(zip(line.low, line.high, strict=True))
        ]
        parts += [_band(edges, line.colour), _curve(points, line.colour, line.dashed)]
    return _svg(WIDTH, HEIGHT, parts, "; ".join(line.name for line in lines))


def heat_chart(times: Sequence[datetime], rows: Sequence[tuple[str, Sequence[float | None]]], *, full: float) -> Markup:
    """A row of cells for each signal: white at no effect, deepest at `full` or more; a cross where nothing is known."""
    width = (WIDTH - LABEL_WIDTH - RIGHT) / max(len(times), 1)
    parts = []
    for number, (name, values) in enumerate(rows):
        top = TOP + number * ROW
        parts.append(_text(LABEL_WIDTH - 8, top + ROW / 2 + 4, name, "end"))
        for column, value in enumerate(values):
            parts.append(_cell(LABEL_WIDTH + column * width, top, width, name, times[column], value, full))
    height = TOP + len(rows) * ROW + BOTTOM
    parts.append(_dates(times, lambda number: LABEL_WIDTH + width * (number + 0.5), bottom=height))
    return _svg(WIDTH, height, parts, "effect of each signal over time")


def reliability_chart(bins: Sequence[ReliabilityBin]) -> Markup:
    """Accuracy against stated confidence, with 95 % intervals; the diagonal is perfect calibration."""
    side = 300

    def x(value: float) -> float:
        return LEFT + (side - LEFT - RIGHT) * value

    def y(value: float) -> float:
        return TOP + (side - TOP - BOTTOM) * (1 - value)

    parts = [_grid(0.0, 1.0, y, right=side), _curve([(x(0), y(0)), (x(1), y(1))], GREY, dashed=True)]
    for tick in (0.0, 0.5, 1.0):
        parts.append(_text(x(tick), side - 8, f"{tick:.0%}", "end" if tick == 1.0 else "middle"))
    for item in bins:
        at = x(item.mean_confidence)
        parts.append(_curve([(at, y(item.accuracy_low)), (at, y(item.accuracy_high))], BLUE))
        hint = f"{item.n} answers at {item.mean_confidence:.0%}: {item.accuracy:.0%} right"
        parts.append(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="{}"><title>{}</title></circle>').format(
                at, y(item.accuracy), BLUE, hint
            )
        )
    return _svg(side, side, parts, "accuracy against confidence")


def _grid(low: float, high: float, y: _Scale, *, right: int = WIDTH) -> Markup:
    steps = max(round((high - low) * 10), 1)
    skipped = math.ceil(steps / MAX_TICKS)
    values = [low + i / 10 for i in range(0, steps + 1, skipped)]
    parts = []
    for value in values:
        parts.append(
            Markup('<line x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}" stroke="#ddd"/>').format(
                LEFT, right - RIGHT, y(value), y(value)
            )
        )
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:.0%}", "end"))
    return _joined(parts)


def _dates(times: Sequence[datetime], x: _Scale, *, bottom: float = HEIGHT) -> Markup:
    step = max(math.ceil(len(times) / MAX_TICKS), 1)
    spread = (times[-1] - times[0]).days if times else 0
    form = "%Y-%m" if spread > 365 else "%m-%d" if spread > 2 else "%H:%M"
    return _joined(
        _text(x(number), bottom - 8, times[number].strftime(form), "middle") for number in range(0, len(times), step)
    )


def _curve(points: Sequence[tuple[float, float] | None], colour: str, dashed: bool = False) -> Markup:
    """A line with gaps where nothing is known; a lone point is a dot."""
    path, pen_down, dots = [], False, []
    for number, point in enumerate(points):
        if point is None:
            pen_down = False
            continue
        path.append(f"{'L' if pen_down else 'M'}{point[0]:.1f} {point[1]:.1f}")
        after = points[number + 1] if number + 1 < len(points) else None
        if not pen_down and after is None:
            dots.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="{}"/>').format(*point, colour))
        pen_down = True
    dash = Markup(' stroke-dasharray="5 4"') if dashed else ""
    line = Markup('<path d="{}" fill="none" stroke="{}" stroke-width="2"{}/>').format(" ".join(path), colour, dash)
    return _joined([line if path else Markup(""), *dots])


def _band(edges: Sequence[tuple[float, float, float] | None], colour: str) -> Markup:
    """A shaded band of (x, low, high) with gaps where nothing is known."""
    shapes = []
    for known, run in groupby(edges, key=lambda edge: edge is not None):
        kept = [edge for edge in run if edge is not None]
        if known:
            there = [f"{x:.1f},{high:.1f}" for x, _, high in kept]
            back = [f"{x:.1f},{low:.1f}" for x, low, _ in reversed(kept)]
            points = " ".join(there + back)
            shapes.append(Markup('<polygon points="{}" fill="{}" opacity="0.15"/>').format(points, colour))
    return _joined(shapes)


def _mark(x: float) -> Markup:
    return Markup(
        '<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}" stroke="{3}" stroke-dasharray="2 3">'
        "<title>alarm</title></line>"
    ).format(x, TOP, HEIGHT - BOTTOM, RED)


def _cell(x: float, y: float, width: float, name: str, at: datetime, value: float | None, full: float) -> Markup:
    if not finite(value):
        return _text(x + width / 2, y + ROW / 2 + 4, "×", "middle")
    opacity = min(max(value, 0.0) / full, 1.0)
    hint = f"{name} on {at:%Y-%m-%d %H:%M}: {value:.3f}"
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" fill="{}" fill-opacity="{:.2f}" stroke="#eee">'
        "<title>{}</title></rect>"
    ).format(x, y, width, ROW - 3, ORANGE, opacity, hint)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _svg(width: int, height: int, parts: Iterable[Markup], title: str) -> Markup:
    opening = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, escape(title))
    return opening + _joined(parts) + Markup("</svg>")


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def finite(value: float | None) -> TypeGuard[float]:
    """Whether there is a number to draw."""
    return value is not None and math.isfinite(value)
