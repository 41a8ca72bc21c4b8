"""The order of the queue: oldest first, joined by texts of its version and length, bounded, and exact in its count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.errors import Overloaded
from service.engine.batcher import Line, length_class, longest_of
from service.engine.classifier import LoadedVersion
from service.engine.work import Work
from tests.unit.service.works import loaded, read, unread


def _line_of(
    *lengths: int, capacity: int = 100, max_batch: int = 4, max_batch_tokens: int = 512
) -> tuple[Line, list[Work]]:
    """A line in which texts of these token counts wait, tokenised, in this order."""
    target = loaded(max_batch=max_batch, max_batch_tokens=max_batch_tokens)
    line, works = Line(capacity), [unread(target, str(length)) for length in lengths]
    line.add(works)
    line.take_unread(len(works))
    line.add_read([read(work, length) for work, length in zip(works, lengths, strict=True)])
    return line, works


def test_the_oldest_text_is_joined_by_those_of_its_length_only() -> None:
    line, works = _line_of(20, 100, 21, 5, 20)
    assert line.take_batch() == [works[0], works[2], works[4]]
    assert line.take_batch() == [works[1]]
    assert line.take_batch() == [works[3]]
    assert line.take_batch() == []


def test_a_batch_is_no_larger_than_the_version_allows() -> None:
    line, works = _line_of(*[10] * 6, max_batch=4)
    assert line.take_batch() == works[:4]
    assert line.take_batch() == works[4:]


def test_a_batch_holds_no_more_tokens_than_the_version_allows_but_one_text_always_goes() -> None:
    budget = loaded(max_batch=32, max_batch_tokens=64)
    assert [budget.batch_of(tokens) for tokens in (1, 2, 16, 17, 64, 500)] == [32, 32, 4, 3, 1, 1]
    line, _ = _line_of(*[17] * 5, max_batch=32, max_batch_tokens=64)
    assert [len(line.take_batch()) for _ in range(2)] == [3, 2]


@given(st.integers(1, 10_000))
def test_a_length_class_ends_with_its_longest_text(tokens: int) -> None:
    longest = longest_of(length_class(tokens))
    assert tokens <= longest
    assert length_class(longest) == length_class(tokens) < length_class(longest + 1)


def test_versions_never_share_a_batch() -> None:
    one, other = loaded(1), loaded(2)
    works = [unread(one), unread(other), unread(one)]
    line = Line(10)
    line.add(works)
    assert line.take_unread(10) == [works[0], works[2]]
    assert line.take_unread(10) == [works[1]]
    line.add_read([read(work, 8) for work in works])
    assert line.take_batch() == [works[0], works[2]]
    assert line.take_batch() == [works[1]]


def test_only_so_many_are_tokenised_at_once() -> None:
    target = loaded()
    line, works = Line(10), [unread(target) for _ in range(5)]
    line.add(works)
    assert line.take_unread(3) == works[:3]
    assert line.take_unread(3) == works[3:]


def test_what_does_not_fit_is_refused_whole() -> None:
    line = Line(3)
    line.add([unread(loaded()), unread(loaded())])
    with pytest.raises(Overloaded) as refused:
        line.add([unread(loaded()), unread(loaded())])
    assert refused.value.retry_after > 0
    assert len(line) == 2
    line.add([unread(loaded())])


def test_texts_in_the_tokenizer_still_take_their_places() -> None:
    line = Line(1)
    line.add([unread(loaded())])
    line.take_unread(1)
    with pytest.raises(Overloaded):
        line.add([unread(loaded())])


def test_a_text_can_leave_from_anywhere() -> None:
    target = loaded()
    line, works = Line(4), [unread(target) for _ in range(4)]
    line.add(works)
    line.remove(works[3])  # before the tokenizer
    assert line.take_unread(10) == works[:3]
    line.remove(works[2])  # in the tokenizer
    line.add_read([read(work, 8) for work in works[:3]])
    line.remove(works[1])  # before the model
    line.remove(works[1])
    assert len(line) == 1
    assert line.take_batch() == [works[0]]
    line.remove(works[0])  # in the model
    assert len(line) == 0
    assert not line.has_task


def test_depths_are_counted_by_model() -> None:
    line = Line(10)
    line.add([unread(loaded(model="one")), unread(loaded(model="other")), unread(loaded(2, model="other"))])
    assert line.depths() == {"one": 1, "other": 2}


def _waiting(line: Line, target: LoadedVersion, party: str, texts: int) -> list[Work]:
    works = [unread(target, party=party) for _ in range(texts)]
    line.add(works)
    line.take_unread(texts)
    line.add_read([read(work, 8) for work in works])
    return works


def test_who_sends_little_is_not_kept_waiting_by_who_sends_a_lot() -> None:
    line, target = Line(100), loaded(max_batch=4)
    flood = _waiting(line, target, "flood", 40)
    assert line.take_batch() == flood[:4]
    few = _waiting(line, target, "few", 2)
    soon = [*line.take_batch(), *line.take_batch()]
    assert set(few) < set(soon)
    assert [work for work in soon if work.party == "flood"] == flood[4:10]  # each party in its order of arrival


def test_two_who_send_a_lot_share_alike_whoever_came_first_and_whatever_the_model() -> None:
    line = Line(200)
    one, other = loaded(max_batch=2), loaded(2, model="other", max_batch=2)
    _waiting(line, one, "first", 60)
    _waiting(line, other, "second", 60)
    taken = [work.party for _ in range(20) for work in line.take_batch()]
    assert taken.count("first") == taken.count("second") == 20


def test_a_long_text_uses_up_its_partys_turn() -> None:
    line, target = Line(100), loaded(max_batch=1)
    for party, text in (("long", "x" * 500), ("short", "x" * 30)):
        works = [unread(target, text, party) for _ in range(30)]
        line.add(works)
        line.take_unread(30)
        line.add_read([read(work, 8) for work in works])
    taken = [line.take_batch()[0].party for _ in range(28)]
    assert taken.count("short") == 24


def test_a_caller_who_fills_the_queue_leaves_a_place_for_others() -> None:
    line, target = Line(100), loaded()
    for _ in range(100):
        try:
            line.check_share("flood")
        except Overloaded:
            break
        line.add([unread(target, party="flood")])
    assert len(line) == 81
    line.check_share("newcomer")
    with pytest.raises(Overloaded, match="81 texts of yours wait already"):
        line.check_share("flood")


def test_nothing_is_kept_of_callers_and_texts_that_left() -> None:
    line, target = Line(10), loaded()
    stays = unread(target, party="stays")
    line.add([stays])
    for number in range(1000):
        leaver = unread(target, party=str(number))
        line.add([leaver])
        line.remove(leaver)
    assert len(line._ends) == len(line._held) == 1
    assert len(line._unread[target]._order) < 100
    assert line.take_unread(10) == [stays]


@given(tokens=st.integers(1, 512))
def test_texts_of_a_class_differ_in_length_by_less_than_a_fifth(tokens: int) -> None:
    longest = max(length for length in range(tokens, 2 * tokens + 1) if length_class(length) == length_class(tokens))
    assert longest / tokens < 1.2


@given(lengths=st.lists(st.integers(1, 512), max_size=40), removed=st.sets(st.integers(0, 39)))
def test_every_text_is_taken_once_unless_removed_and_never_padded_much(lengths: list[int], removed: set[int]) -> None:
    line, works = _line_of(*lengths)
    left = {work for number, work in enumerate(works) if number in removed}
    for work in left:
        line.remove(work)
    taken: list[Work] = []
    while batch := line.take_batch():
        sizes = [len(work.encoded or ()) for work in batch]
        assert max(sizes) < 1.2 * min(sizes)
        assert batch[0] is min((work for work in works if work not in left and work not in taken), key=works.index)
        taken += batch
    assert len(taken) == len(set(taken)) == len(works) - len(left)
    assert not left & set(taken)
    assert len(line) == 0
