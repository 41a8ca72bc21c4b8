import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitoring.stats import rank_bets

cells = arrays(
    np.int64, st.tuples(st.just(2), st.integers(1, rank_bets.BATCH)), elements=st.integers(0, rank_bets.CELLS - 1)
)


@given(cells)
def test_every_bet_is_fair_whatever_came_before(past):
    _, memory = rank_bets.play(past, rank_bets.no_memory(2))
    expected = np.zeros((2, rank_bets.BETTORS))
    for cell, width in enumerate(rank_bets.WIDTHS):
        e_values, _ = rank_bets.play(np.full((2, 1), cell), memory)
        assert (e_values > 0).all()
        expected += width * e_values[0]
    assert np.allclose(expected, 1)


@given(cells, st.integers(0, rank_bets.BATCH))
def test_playing_in_pieces_is_playing_at_once(stream, cut):
    at_once, memory = rank_bets.play(stream, rank_bets.no_memory(2))
    pieces, carried = [], rank_bets.no_memory(2)
    for piece in (stream[:, :cut], stream[:, cut:]):
        e_values, carried = rank_bets.play(piece, carried)
        pieces.append(e_values)
    assert np.allclose(np.concatenate(pieces), at_once)
    assert np.allclose(carried, memory)


def test_the_mixture_stakes_one_coin():
    assert np.isclose(rank_bets.SHARES.sum(), 1)
    assert (rank_bets.SHARES > 0).all()


def test_a_learning_bettor_wins_on_a_habit_in_the_middle_where_tail_bets_lose():
    habit = np.full((1, rank_bets.BATCH), rank_bets.cells_of(np.array(0.52)))
    e_values, _ = rank_bets.play(habit, rank_bets.no_memory(1))
    wealth = np.log(e_values).sum(axis=0)[0]
    assert wealth[: -rank_bets.LEARNERS].max() < 0 < wealth[-rank_bets.LEARNERS :].min()
