"""Weekdays mean what cron means by them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from monitoring.core.cron import read_cron

SATURDAY = datetime(2026, 1, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("weekday", "day"),
    [("0", 4), ("7", 4), ("1", 5), ("mon", 5), ("1-5", 5), ("2,4", 6), ("*", 3), ("6", 3), ("3/2", 7)],
)
def test_a_schedule_comes_first_on_that_day(weekday: str, day: int) -> None:
    first = read_cron(f"0 3 * * {weekday}").get_next_fire_time(None, SATURDAY)
    assert first == datetime(2026, 1, day, 3, tzinfo=UTC)
