"""From values to pages: Jinja2 with autoescape, and headers that let a page only show itself and post home."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NOTHING = "–"


def render(template: str, *, status: int = 200, **values: Any) -> Response:
    """The page that `template` makes of `values`."""
    return HTMLResponse(_templates.get_template(template).render(**values), status)


def percent(value: float | None, digits: int = 1) -> str:
    """0.931 → 93.1 %."""
    return f"{value:.{digits}%}".replace("%", " %") if _known(value) else NOTHING


def points(value: float | None) -> str:
    """A difference of shares in percentage points: 0.012 → +1.2."""
    return f"{100 * value:+.1f}".replace("-", "−") if _known(value) else NOTHING


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """At most `digits` after the point, and none of a whole number."""
    if not _known(value):
        return NOTHING
    sign, shown = "+" if signed else "", 0 if float(value).is_integer() else digits
    return f"{value:{sign},.{shown}f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """Small ones are as small as anybody needs to know."""
    return "<0.001" if _known(value) and value < 0.001 else number(value)


def moment(when: datetime | None) -> str:
    """Minutes are enough for people; the page has the whole time in its `datetime` attribute."""
    return NOTHING if when is None else f"{when:%Y-%m-%d %H:%M} UTC"


def span(length: timedelta) -> str:
    """A duration in its largest unit: 3 h."""
    seconds = abs(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def words(name: str) -> str:
    """awaiting_approval → awaiting approval."""
    return name.replace("_", " ")


def in_path(reference: str) -> str:
    """A name as part of a URL's path."""
    return quote(reference, safe="@")


def reach(*ends: float | None) -> float:
    """Half the width of an axis around zero that holds all `ends`: the next round number."""
    largest = max((abs(end) for end in ends if _known(end)), default=1.0)
    return next((limit for limit in (0.02, 0.05, 0.1, 0.2, 0.5) if largest <= limit), 1.0)


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


_templates = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "percent": percent,
    "points": points,
    "number": number,
    "p_value": p_value,
    "moment": moment,
    "span": span,
    "words": words,
    "in_path": in_path,
}
_templates.globals |= {"reach": reach}
