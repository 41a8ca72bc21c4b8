"""Rows that depend on each other are worth fewer; those that do not, as many as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.stats.design_effect import BLOCK_SECONDS, LEAST_BLOCKS, Dependence, design_effect, time_blocks


def test_one_cluster_alone_never_makes_a_mean_significant(rng: np.random.Generator) -> None:
    """However many rows a burst brings and however far off they lie: the mean is off by its own deviation at most."""
    for burst in (20, 100, 400, 20_000):
        values = np.concatenate([rng.normal(size=1000), np.full(burst, 50.0)])
        clusters = np.concatenate([np.arange(1000), np.full(burst, 1000)])
        naive = values.mean() / (values.std() / np.sqrt(len(values)))
        assert naive > 4.0
        assert naive / np.sqrt(design_effect(values, clusters)) < 1.5


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_values_that_cannot_vary_are_taken_as_they_are(value: float) -> None:
    assert design_effect(np.full(10, value), np.arange(10) // 2) == 1.0


def test_independent_rows_are_worth_nearly_all_whatever_their_clusters(rng: np.random.Generator) -> None:
    worths = []
    for _ in range(50):
        seconds = np.sort(rng.uniform(0, 18_000, 2000))
        worths.append(Dependence.of(rng.integers(0, 1500, 2000), seconds).worth(rng.normal(size=2000)))
    assert np.mean(worths) > 0.85
    assert min(worths) > 0.65


@given(
    start=st.floats(0, 1e9),
    span=st.floats(1.0, 1e6),
    begin=st.floats(0, 1),
    rows=st.integers(2, 50),
)
def test_what_lasts_half_a_block_or_less_lies_in_one_block_of_either_grid(
    start: float, span: float, begin: float, rows: int
) -> None:
    half = min(BLOCK_SECONDS, span / LEAST_BLOCKS) / 2
    burst = begin * (span - half) + np.linspace(0, 0.999 * half, rows)
    grids = time_blocks(start + np.concatenate([[0.0, span], burst]))
    assert 1 in {len(np.unique(grid[2:])) for grid in grids}


def test_where_and_when_is_not_known_or_says_nothing_rows_are_whole() -> None:
    assert Dependence.of(["a", "b", "c"], None) == Dependence()
    assert Dependence().worth([1.0, 2.0, 3.0]) == 1.0
    at_once = Dependence.of(["a", "b", "c"], [5, 5, 5])
    assert at_once.worth([1.0, 2.0, 4.0]) == pytest.approx(1 / 3)
    assert Dependence.of([], []).kinds == ()
