"""Assignment is sticky, uniform, monotone in the share, and drawn anew by every rollout."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.ids import unit_hash
from service.assignment import meets_candidate, position

UNITS = [unit_hash(f"customer-{number}") for number in range(20_000)]
shares = st.floats(0, 1)


@given(unit=st.text(), salt=st.text(max_size=10), one=shares, other=shares)
def test_who_met_the_candidate_meets_it_at_every_larger_share(unit: str, salt: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    assert meets_candidate(unit, salt, smaller) <= meets_candidate(unit, salt, larger)


@given(unit=st.text(), salt=st.text(max_size=10))
def test_a_share_of_nothing_is_nobody_and_of_all_everybody(unit: str, salt: str) -> None:
    assert not meets_candidate(unit, salt, 0.0)
    assert meets_candidate(unit, salt, 1.0)


def test_assignment_is_the_same_in_every_process_and_release() -> None:
    assert position("0011223344556677", "salt") == 0.5359205653149538


def test_the_share_of_units_is_the_share_stated() -> None:
    for share in (0.01, 0.1, 0.5):
        met = sum(meets_candidate(unit, "salt", share) for unit in UNITS) / len(UNITS)
        assert abs(met - share) < 4 * (share * (1 - share) / len(UNITS)) ** 0.5


def test_two_rollouts_draw_independently() -> None:
    both = sum(meets_candidate(unit, "one", 0.5) and meets_candidate(unit, "two", 0.5) for unit in UNITS)
    assert abs(both / len(UNITS) - 0.25) < 0.015
