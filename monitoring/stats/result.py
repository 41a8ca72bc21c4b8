"""What a two-sample test returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self


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
