"""Inline SVG: no script, no font, no request. Colours are classes that the page gives, in light and in dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TypeGuard

from markupsafe import Markup

BLUE, ORANGE, GREEN, RED, GREY, INK = "blue", "orange", "green", "red", "grey", "black"
Scale = Callable[[float], float]
Point = tuple[float, float]


def picture(width: float, height: float, parts: Iterable[Markup], title: str) -> Markup:
    """A drawing that scales with the page; `title` is read out by screen readers."""
    opening = Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">').format(width, height, title)
    return opening + joined(parts) + Markup("</svg>")


def text(x: float, y: float, said: str, anchor: str = "start", kind: str = "tick") -> Markup:
    """One line of text; `anchor`: start, middle or end."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, said)


def rule(start: Point, end: Point, kind: str = "grid", hint: str = "") -> Markup:
    """A straight line."""
    line = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}">').format(kind, *start, *end)
    return line + _hint(hint) + Markup("</line>")


def box(corner: Point, width: float, height: float, kind: str, *, opacity: float = 1.0, hint: str = "") -> Markup:
    """A filled rectangle from its upper left corner."""
    shape = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill-opacity="{:.2f}">')
    return shape.format(kind, *corner, max(width, 0.0), max(height, 0.0), opacity) + _hint(hint) + Markup("</rect>")


def dot(centre: Point, colour: str, *, radius: float = 3, hint: str = "") -> Markup:
    """A filled circle."""
    shape = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}">').format(colour, *centre, radius)
    return shape + _hint(hint) + Markup("</circle>")


def curve(points: Sequence[Point | None], colour: str, *, dashed: bool = False) -> Markup:
    """A line with gaps where nothing is known; a lone point is a dot."""
    path, dots = [], []
    for known, run in groupby(points, key=lambda point: point is not None):
        kept = [point for point in run if point is not None]
        if known and len(kept) == 1:
            dots.append(dot(kept[0], colour))
        elif known:
            path.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in kept))
    kind = f"curve {colour}{' dashed' if dashed else ''}"
    line = Markup('<path class="{}" d="{}"/>').format(kind, "".join(path)) if path else Markup("")
    return joined([line, *dots])


def band(edges: Sequence[tuple[float, float, float] | None], colour: str) -> Markup:
    """A shaded band of (x, low, high) with gaps where nothing is known; a lone one is a bar."""
    shapes = []
    for known, run in groupby(edges, key=lambda edge: edge is not None):
        kept = [edge for edge in run if edge is not None]
        if known and len(kept) == 1:
            x, low, high = kept[0]
            shapes.append(rule((x, low), (x, high), f"whisker {colour}"))
        elif known:
            there = [f"{x:.1f},{high:.1f}" for x, _, high in kept]
            back = [f"{x:.1f},{low:.1f}" for x, low, _ in reversed(kept)]
            shapes.append(area(" ".join(there + back), f"band {colour}"))
    return joined(shapes)


def area(points: str, kind: str) -> Markup:
    """A filled polygon of `points`, "x,y x,y …"."""
    return Markup('<polygon class="{}" points="{}"/>').format(kind, points)


def share_grid(low: float, high: float, y: Scale, *, left: float, right: float, most: int = 6) -> Markup:
    """Horizontal lines at round shares from `low` to `high`, labelled in per cent."""
    steps = max(round((high - low) * 10), 1)
    parts = []
    for number in range(0, steps + 1, math.ceil(steps / most)):
        value = low + number / 10
        parts += [rule((left, y(value)), (right, y(value))), text(left - 6, y(value) + 4, f"{value:.0%}", "end")]
    return joined(parts)


def joined(parts: Iterable[Markup]) -> Markup:
    """One after the other."""
    return Markup("").join(parts)


def finite(value: float | None) -> TypeGuard[float]:
    """Whether there is a number to draw."""
    return value is not None and math.isfinite(value)


def _hint(said: str) -> Markup:
    return Markup("<title>{}</title>").format(said) if said else Markup("")
