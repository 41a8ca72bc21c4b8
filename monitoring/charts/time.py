"""Plots over the windows, on one axis, so that what stands above each other happened together."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from monitoring.charts.svg import INK, RED, band, box, curve, dot, finite, joined, picture, rule, share_grid, text

WIDTH, HEIGHT = 860, 270
LEFT, RIGHT, TOP, BOTTOM = 96, 12, 14, 28
MAX_TICKS = 7
ROW = 24


@dataclass(frozen=True)
class Line:
    """One curve over the windows: a value or None for each, with a band where `low` and `high` are given."""

    name: str
    colour: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Effects:
    """A signal's effect in each window, None where it is not known, and whether it was beyond chance."""

    signal: str
    values: Sequence[float | None]
    sure: Sequence[bool]


@dataclass(frozen=True)
class Course:
    """What was made of each window under some settings: its verdict's colour or None, whether it alarmed, retrained."""

    name: str
    colours: Sequence[str | None]
    alarmed: Sequence[bool]
    retrained: Sequence[bool]


@dataclass(frozen=True)
class Stretch:
    """Something that lasted: a lane's name, from when to when (None: it lasts), a colour, and what it was."""

    lane: str
    start: datetime
    end: datetime | None
    colour: str
    hint: str


def line_chart(times: Sequence[datetime], lines: Sequence[Line], *, marks: Sequence[int] = ()) -> Markup:
    """Shares over time; `marks`: numbers of the windows in which an alarm was raised."""
    known = [v for line in lines for v in line.values if finite(v)]
    known += [v for line in lines for bounds in (line.low, line.high) for v in bounds if finite(v)]
    low = math.floor(10 * min(known, default=0.0)) / 10
    high = max(math.ceil(10 * max(known, default=1.0)) / 10, low + 0.1)

    def x(number: float) -> float:
        return _x(number, len(times))

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [share_grid(low, high, y, left=LEFT, right=WIDTH - RIGHT), _dates(times, HEIGHT)]
    parts += [rule((x(number), TOP), (x(number), HEIGHT - BOTTOM), f"mark {RED}", "alarm") for number in marks]
    for line in lines:
        edges = [
            (x(i), y(a), y(b)) if finite(a) and finite(b) else None
            for i, (a, b) in enumerate(zip(line.low, line.high, strict=True))
        ]
        parts.append(band(edges, line.colour))
    for line in lines:
        points = [(x(i), y(v)) if finite(v) else None for i, v in enumerate(line.values)]
        parts.append(curve(points, line.colour, dashed=line.dashed))
    return picture(WIDTH, HEIGHT, parts, "; ".join(line.name for line in lines))


def heat_chart(times: Sequence[datetime], rows: Sequence[Effects], *, full: float) -> Markup:
    """A row of cells for each signal: empty at no effect, deepest at `full` or more; a cross where nothing is known.

    What chance explains is grey.
    """
    width = (WIDTH - LEFT - RIGHT) / max(len(times), 1)
    parts = []
    for number, row in enumerate(rows):
        top = TOP + number * ROW
        parts.append(text(LEFT - 8, top + ROW / 2 + 3, row.signal, "end"))
        for column, (value, sure) in enumerate(zip(row.values, row.sure, strict=True)):
            left = LEFT + column * width
            if not finite(value):
                parts.append(text(left + width / 2, top + ROW / 2 + 3, "×", "middle"))
                continue
            hint = f"{row.signal}, {times[column]:%Y-%m-%d %H:%M} UTC: {value:.3f}{'' if sure else ', within chance'}"
            opacity = min(max(value, 0.0) / full, 1.0)
            kind = "cell" if sure else "cell chance"
            parts.append(box((left, top), width - min(1.0, width / 8), ROW - 2, kind, opacity=opacity, hint=hint))
    height = TOP + len(rows) * ROW + BOTTOM
    return picture(WIDTH, height, [*parts, _dates(times, height)], "effect of each signal over time")


def course_chart(times: Sequence[datetime], courses: Sequence[Course]) -> Markup:
    """A row of cells for each course; a dot where it alarmed, a ring of arrows where it retrained afterwards."""
    width = (WIDTH - LEFT - RIGHT) / max(len(times), 1)
    parts = []
    for number, course in enumerate(courses):
        middle = TOP + number * ROW + ROW / 2
        parts.append(text(LEFT - 8, middle + 3, course.name, "end"))
        for column, (colour, alarmed, retrained) in enumerate(
            zip(course.colours, course.alarmed, course.retrained, strict=True)
        ):
            left = LEFT + column * width
            if colour is not None:
                parts.append(box((left, middle - 9), width - min(1.0, width / 8), 18, f"usual {colour}"))
            if alarmed:
                hint = f"alarm at the end of the window from {times[column]:%Y-%m-%d %H:%M} UTC"
                parts.append(dot((left + width / 2, middle), INK, radius=4, hint=hint))
            if retrained:
                parts.append(text(left + width - 2, middle + 5, "↻", "end", "name"))
    height = TOP + len(courses) * ROW + BOTTOM
    return picture(WIDTH, height, [*parts, _dates(times, height)], "verdicts and alarms over time, by settings")


def timeline(times: Sequence[datetime], stretches: Sequence[Stretch]) -> Markup:
    """A lane for each kind of thing that lasted, on the axis of the windows that end at `times`."""
    lanes = list(dict.fromkeys(stretch.lane for stretch in stretches))
    parts = []
    for number, name in enumerate(lanes):
        middle = TOP + number * ROW + ROW / 2
        parts += [text(LEFT - 8, middle + 4, name, "end"), rule((LEFT, middle), (WIDTH - RIGHT, middle))]
    for stretch in stretches:
        top = TOP + lanes.index(stretch.lane) * ROW + 5
        start = _place(stretch.start, times)
        end = WIDTH - RIGHT if stretch.end is None else _place(stretch.end, times)
        parts.append(box((start, top), max(end - start, 4), ROW - 10, f"dot {stretch.colour}", hint=stretch.hint))
    height = TOP + len(lanes) * ROW + BOTTOM
    return picture(WIDTH, height, [*parts, _dates(times, height)], "alerts over time")


def _x(number: float, windows: int) -> float:
    """The middle of a window."""
    return LEFT + (WIDTH - LEFT - RIGHT) * (number + 0.5) / max(windows, 1)


def _place(moment: datetime, times: Sequence[datetime]) -> float:
    """Where a moment lies between the windows that end at `times`."""
    after = bisect_left(times, moment)
    if after == 0:
        return LEFT
    if after == len(times):
        return WIDTH - RIGHT
    before = times[after - 1]
    part = (moment - before) / (times[after] - before)
    return _x(after - 1 + part, len(times))


def _dates(times: Sequence[datetime], bottom: float) -> Markup:
    """As short as tells them apart."""
    shown = range(0, len(times), max(math.ceil(len(times) / MAX_TICKS), 1))
    spread = (times[-1] - times[0]).days if times else 0
    form = "%Y-%m" if spread > 365 else "%m-%d" if spread > 0 else "%H:%M"
    if len({times[number].strftime(form) for number in shown}) < len(shown):
        form = "%Y-%m-%d" if spread > 365 else "%m-%d %H:%M" if spread > 0 else "%H:%M:%S"
    return joined(text(_x(number, len(times)), bottom - 8, times[number].strftime(form), "middle") for number in shown)
