"""Strangeness: rises with every signal's tail, knows its direction, and is read as it was written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.stats.binning import FloatArray
from monitoring.stats.strangeness import Strangeness, TailScore

DIRECTIONS = {"entropy": +1, "similarity": -1}


def usual(rng: np.random.Generator, n: int = 2000) -> dict[str, FloatArray]:
    return {"entropy": rng.gamma(2.0, 1.0, n), "similarity": rng.beta(8.0, 2.0, n)}


def test_a_tail_score_is_the_logarithm_of_the_share_at_or_above(rng: np.random.Generator) -> None:
    values = rng.normal(size=5000)
    score = TailScore.of(values)
    for level in (0.5, 0.1, 0.01):
        assert score([np.quantile(values, 1 - level)])[0] == pytest.approx(-np.log(level), abs=0.35)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20))
def test_stranger_never_scores_less(values: list[float]) -> None:
    strangeness = Strangeness.of(usual(np.random.default_rng(5), 300), DIRECTIONS)
    ordered = np.sort(values)
    alike = np.full(len(ordered), 0.8)
    assert (np.diff(strangeness({"entropy": ordered, "similarity": alike})) >= 0).all()
    assert (np.diff(strangeness({"entropy": alike, "similarity": ordered})) <= 0).all()


def test_weak_signs_add_up_to_more_than_any_single_one_shows(rng: np.random.Generator) -> None:
    strangeness = Strangeness.of(usual(rng), DIRECTIONS)
    plain = usual(rng, 20_000)
    odd = {"entropy": plain["entropy"] + 3.0, "similarity": plain["similarity"] - 0.25}

    def caught(score: FloatArray, of: FloatArray) -> float:
        return float((of > np.quantile(score, 0.99)).mean())

    together = caught(strangeness(plain), strangeness(odd))
    assert together > caught(plain["entropy"], odd["entropy"]) + 0.1
    assert together > caught(-plain["similarity"], -odd["similarity"]) + 0.1


def test_what_is_not_a_number_is_strange_and_what_is_constant_is_not() -> None:
    strangeness = Strangeness.of({"entropy": np.full(100, 0.5), "similarity": np.full(100, 0.5)}, DIRECTIONS)
    same, lost = strangeness({"entropy": [0.5, np.nan], "similarity": [0.5, np.nan]})
    assert same == pytest.approx(0.0, abs=0.02)
    assert lost > 9.0


def test_without_a_reference_all_score_alike() -> None:
    strangeness = Strangeness.of({"entropy": [], "similarity": []}, DIRECTIONS)
    scores = strangeness({"entropy": [0.1, 9.0], "similarity": [0.1, 9.0]})
    assert np.isfinite(scores).all()
    assert scores[0] == scores[1]


def test_it_is_read_as_it_was_written(rng: np.random.Generator) -> None:
    written = Strangeness.of(usual(rng), DIRECTIONS)
    read = Strangeness.from_arrays(written.to_arrays(), DIRECTIONS)
    table = usual(rng, 100)
    np.testing.assert_array_equal(read(table), written(table))
    with pytest.raises(KeyError):
        Strangeness.from_arrays({}, DIRECTIONS)
