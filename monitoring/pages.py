"""From values to a page that needs nothing else: Jinja2 with autoescape, style and plots inside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from monitoring.charts.svg import finite
from monitoring.charts.time import Effects
from monitoring.core.types import Interval

NOTHING = "–"
LEAST_P_VALUE = 1e-16  # what is smaller says nothing more


def render(template: str, **values: Any) -> str:
    """The page that `template` makes of `values`."""
    return _pages().get_template(template).render(**values)


def effects_by_signal(windows: Sequence[Mapping[str, float]], moved: Sequence[Collection[str]]) -> list[Effects]:
    """Each signal that any window knows, with its effect in every window, and where it `moved` beyond chance."""
    names = dict.fromkeys(name for window in windows for name in window)
    return [
        Effects(name, [window.get(name) for window in windows], [name in significant for significant in moved])
        for name in names
    ]


def _share(value: float | None) -> str:
    return f"{value:.1%}" if finite(value) else NOTHING


def _points(value: float | None) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * value:+.1f}".replace("-", "−") if finite(value) else NOTHING


def _interval(interval: Interval | None) -> str:
    if interval is None or not finite(interval.value):
        return NOTHING
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _moment(moment: datetime | None) -> str:
    return "open" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _number(value: Any, digits: int = 3) -> str:
    """Whole numbers with thousands marked, others with at most `digits`; what is no number as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if not finite(value):
        return NOTHING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.{digits}f}"


def _p_value(value: float) -> str:
    if not finite(value):
        return NOTHING
    if value < LEAST_P_VALUE:
        return f"< {LEAST_P_VALUE:.0e}"
    return f"{value:.4f}" if value >= 0.0001 else f"{value:.0e}".replace("e-0", "e-")


FILTERS: Mapping[str, Callable[..., str]] = {
    "share": _share,
    "interval": _interval,
    "moment": _moment,
    "day": _day,
    "number": _number,
    "p_value": _p_value,
    "points": _points,
}
"""What templates turn values into words with."""


@cache
def _pages() -> Environment:
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= FILTERS
    return pages
