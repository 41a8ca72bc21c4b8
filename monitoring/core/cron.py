"""Schedules as cron writes them: five fields, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

CURE = "write five fields (minute hour day month weekday, UTC), such as '0 3 * * mon'"
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def read_cron(expression: str) -> CronTrigger:
    """The clock's trigger for a cron expression. Raises ValueError, with the cure, if it is none or never comes."""
    from apscheduler.triggers.cron import CronTrigger  # most commands need no clock

    try:
        trigger = CronTrigger.from_crontab(expression, timezone=UTC)
    except ValueError as error:
        raise ValueError(f"this is not a cron expression of five fields ({error}): {CURE}") from error
    if trigger.get_next_fire_time(None, _ANY_TIME) is None:
        raise ValueError(f"this is a time that never comes: {CURE}")
    return trigger
