"""What a two-sample test returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from monitoring.stats.binning import FloatArray

Worth = float | Callable[[FloatArray], float]
"""How many independent rows a row of y is worth (`design_effect`): a number, or what tells it of the difference found.

That is given in terms of what the test was given: a score of each row, of each bin, class or feature.
"""


@dataclass(frozen=True)
class TestResult:
    """Evidence and size of a difference between two samples; nan where a sample is empty and nothing can be said."""

    __test__ = False  # to pytest: no test case, whatever the name says

    statistic: float
    p_value: float
    effect: float
    """Size of the difference in [0, 1]; each test says in which terms."""
    n_x: int
    n_y: int

    @classmethod
    def undefined(cls, n_x: int, n_y: int) -> Self:
        """The result where at least one sample is empty."""
        return cls(math.nan, math.nan, math.nan, n_x, n_y)


def worth_along(worth: Worth, difference: FloatArray) -> float:
    """What a row is worth to a test that found this difference."""
    return worth(difference) if callable(worth) else worth
