"""Numbers as people read them."""

from __future__ import annotations

import pytest

from monitoring.pages import FILTERS

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.5, "0.5000"), (0.0001, "0.0001"), (2.6e-7, "3e-7"), (2e-12, "2e-12"), (0.0, "< 1e-16"), (NAN, "–")],
)
def test_a_p_value_says_no_more_than_it_knows(value: float, said: str) -> None:
    assert FILTERS["p_value"](value) == said


def test_numbers_have_marked_thousands_and_few_digits() -> None:
    assert [FILTERS["number"](value) for value in (12_000, 0.12345, NAN, "support@2", True)] == [
        "12,000",
        "0.123",
        "–",
        "support@2",
        "True",
    ]
    assert [FILTERS["points"](value) for value in (0.012, -0.004, None)] == ["+1.2", "−0.4", "–"]
