"""When `leeway up` starts a dead role again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from service.restart import next_start


def waits(lives: Sequence[float]) -> list[float | None]:
    """The wait after each of these lives, in seconds, of one role."""
    quick, found = 0, []
    for lived in lives:
        following = next_start(lived, quick)
        quick = following.quick
        found.append(following.wait)
    return found


@pytest.mark.parametrize(
    ("lives", "expected"),
    [
        ([0, 1, 30, 60, 5], [2, 4, 8, 16, None]),
        ([61], [2]),
        ([1, 1, 1, 1, 61, 1, 1, 1, 1, 1], [2, 4, 8, 16, 2, 2, 4, 8, 16, None]),
        ([3600] * 20, [2] * 20),
    ],
    ids=["five quick deaths", "a long life", "a long life in between", "long lives only"],
)
def test_quick_deaths_wait_longer_until_the_fifth_and_a_long_life_starts_the_count_anew(
    lives: list[float], expected: list[float | None]
) -> None:
    assert waits(lives) == expected


def test_the_reason_says_how_long_it_lived_and_how_often_it_died() -> None:
    assert next_start(3.2, 0).reason == "after 3 s, quick death 1 of 5"
    assert next_start(7200.0, 4).reason == "after 7200 s"
    assert next_start(1.0, 4).reason == "death 5 in a row within 60 s of its start"
