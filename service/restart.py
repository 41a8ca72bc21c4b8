"""When a role that has died by itself is started again, and when it is given up. Pure."""

from __future__ import annotations

from dataclasses import dataclass

WAITS = (2.0, 4.0, 8.0, 16.0)
"""Seconds before it is started again after one, two, three and four quick deaths in a row."""
LONG_LIFE = 60.0
"""A role that lived for more seconds than these had recovered: the count starts anew."""


@dataclass(frozen=True)
class NextStart:
    """`wait`: seconds until the next start, None where there is none; `quick`: quick deaths in a row; and why."""

    wait: float | None
    quick: int
    reason: str


def next_start(lived: float, quick: int) -> NextStart:
    """What follows when a role dies after `lived` seconds, with `quick` quick deaths in a row before this one.

    >>> next_start(1.0, 3).wait, next_start(1.0, 4).wait, next_start(61.0, 4).wait
    (16.0, None, 2.0)
    """
    if lived > LONG_LIFE:
        return NextStart(WAITS[0], 0, f"after {lived:.0f} s")
    quick += 1
    if quick > len(WAITS):
        return NextStart(None, quick, f"death {quick} in a row within {LONG_LIFE:.0f} s of its start")
    return NextStart(WAITS[quick - 1], quick, f"after {lived:.0f} s, quick death {quick} of {len(WAITS) + 1}")
