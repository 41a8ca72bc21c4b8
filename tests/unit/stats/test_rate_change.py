"""Evidence of a change: rare under any constant rate, soon there after a rise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monitoring.stats.rate_change import likeliest_change, log_evidence_of_change


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_a_constant_rate_rarely_gives_evidence_at_any_look(rate: float) -> None:
    """Ville: at most one in ten streams reaches 10; of 100 streams, more than 20 would have a chance below 0.1 %."""
    rng = np.random.default_rng(4)
    streams = (rng.random((100, 600)) < rate).astype(np.float64)
    reached = sum(
        max(log_evidence_of_change(stream[:n]) for n in range(20, 601, 20)) >= math.log(10) for stream in streams
    )
    assert reached <= 20


def test_a_rise_is_proven_and_dated(rng: np.random.Generator) -> None:
    stream = np.concatenate([rng.random(300) < 0.1, rng.random(150) < 0.4]).astype(np.float64)
    assert log_evidence_of_change(stream[:300]) < 1.0
    assert log_evidence_of_change(stream) > math.log(1000)
    assert abs(likeliest_change(stream) - 300) < 30


def test_a_sample_counts_by_its_probability(rng: np.random.Generator) -> None:
    """Hard units are sampled ten times as often from the middle on: the rate of all of them never changes."""
    hard = rng.random(4000) < 0.2
    wrong = hard & (rng.random(4000) < 0.5)
    chance = np.where(np.arange(4000) < 2000, 0.1, np.where(hard, 0.5, 0.05))
    asked = rng.random(4000) < chance
    naive = log_evidence_of_change(wrong[asked].astype(float))
    assert naive > math.log(1000)
    assert log_evidence_of_change(wrong[asked].astype(float), chance[asked]) < math.log(20)


def test_little_or_odd_input() -> None:
    assert log_evidence_of_change([]) == 0.0
    assert log_evidence_of_change([1.0]) == 0.0
    assert likeliest_change([]) == 0
    assert log_evidence_of_change([0.5] * 200) < 1.0
    with pytest.raises(ValueError, match="outside"):
        log_evidence_of_change([0.0, 2.0])
