"""Schedules as cron writes them: five fields, in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

CURE = "write five fields (minute hour day month weekday, UTC), such as '0 3 * * mon'"
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NUMBERS = re.compile(r"(?:(?P<first>[0-7])(?:-(?P<last>[0-7]))?|\*)(?:/(?P<step>[1-7]))?")
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def read_cron(expression: str) -> CronTrigger:
    """The clock's trigger for a cron expression. Raises ValueError, with the cure, if it is none or never comes."""
    from apscheduler.triggers.cron import CronTrigger  # most commands need no clock

    try:
        trigger = CronTrigger.from_crontab(_with_named_days(expression), timezone=UTC)
    except ValueError as error:
        raise ValueError(f"this is not a cron expression of five fields ({error}): {CURE}") from error
    if trigger.get_next_fire_time(None, _ANY_TIME) is None:
        raise ValueError(f"this is a time that never comes: {CURE}")
    return trigger


def _with_named_days(expression: str) -> str:
    """The clock counts numbered weekdays from Monday, cron from Sunday: by their names both agree.

    >>> _with_named_days("0 3 * * 0,5-7"), _with_named_days("0 3 1 * *"), _with_named_days("0 3 * * */3")
    ('0 3 * * sun,fri,sat,sun', '0 3 1 * *', '0 3 * * sun,wed,sat')
    """
    *others, days = expression.split() or [""]
    return " ".join([*others, ",".join(map(_named, days.split(",")))])


def _named(days: str) -> str:
    numbers = _NUMBERS.fullmatch(days)
    if numbers is None or days == "*":
        return days
    first, step = int(numbers["first"] or 0), int(numbers["step"] or 1)
    last = int(numbers["last"] or (first if numbers["first"] and not numbers["step"] else 6))
    if first > last:
        raise ValueError(f"the weekdays {days} end before they begin")
    return ",".join(_DAYS[day % 7] for day in range(first, last + 1, step))
