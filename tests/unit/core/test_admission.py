"""One client weighs a bounded amount a minute, one text an hour, whatever the model answers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.admission import BUCKETS, KEPT, SPANS, Admission, Sender

SECOND = 1_000_000


def row(unit: str, text: str | None, *, second: float = 0.0, version: str = "v1") -> dict[str, Any]:
    return {"version": version, "unit": unit, "text": text, "at_us": int(second * SECOND)}


def least(n: int) -> dict[Sender, int]:
    return {"unit": n, "text": n}


def test_ordinary_traffic_counts_whole() -> None:
    rows = [row(f"client-{n % 40}", f"message {n}", second=n) for n in range(600)]
    assert all(Admission().judge(rows))


def test_a_bot_counts_up_to_the_floor_and_then_for_its_share() -> None:
    people = [row(f"client-{n}", f"message {n}", second=n / 100) for n in range(2000)]
    bot = [row("bot", f"attempt {n}", second=n / 100) for n in range(2000)]
    mixed = [each for pair in zip(people, bot, strict=True) for each in pair]
    counted = Admission(share=0.05).judge(mixed)
    assert all(counted[0::2])
    assert sum(counted[1::2]) == 106  # 5 % of what counts
    assert all(counted[1:60:2])  # the first thirty


def test_the_same_text_from_many_clients_is_bounded_as_well_where_texts_are_kept() -> None:
    assert sum(Admission(least(10), share=0.01).judge([row(f"c{n}", "buy now") for n in range(500)])) == 10
    assert sum(Admission(least(10), share=0.01).judge([row(f"c{n}", None) for n in range(500)])) == 500


def test_a_client_begins_anew_every_minute_a_text_every_hour_and_both_in_every_version() -> None:
    admission = Admission(least(5), share=0.01)
    client = [row("bot", f"attempt {second}.{n}", second=second) for second in (0, 61) for n in range(20)]
    assert sum(admission.judge(client)) == 10
    text = [row(f"c{second}.{n}", "hello", second=second) for second in (0, 61, 3601) for n in range(20)]
    assert sum(admission.judge(text)) == 10
    assert sum(admission.judge([row("bot", "hello", version="v2") for _ in range(20)])) == 5


def test_what_was_shipped_before_is_remembered_within_the_minute() -> None:
    admission = Admission(least(5), share=0.01)
    assert [sum(admission.judge([row("bot", "hello", second=n)] * 4)) for n in range(3)] == [4, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300)), max_size=200))
def test_no_client_ever_weighs_more_than_its_bound(sent: list[tuple[int, int]]) -> None:
    rows = [row(f"client-{client}", f"{n}", second=second) for n, (client, second) in enumerate(sent)]
    counted = Admission(least(3), share=0.2).judge(rows)
    weights, totals = Counter[tuple[int, int]](), Counter[int]()
    for (client, second), counts in zip(sent, counted, strict=True):
        totals[second // 60] += 1
        weights[client, second // 60] += counts
    assert all(weight <= max(3, 0.2 * totals[minute] + 1) for (_, minute), weight in weights.items())


def test_the_state_is_bounded() -> None:
    admission = Admission()
    admission.judge([row(f"client-{n}", f"message {n}", second=n / 100) for n in range(100_000)])
    assert len(admission._spans) <= KEPT * len(SPANS)
    assert all(len(span.counted) <= BUCKETS for span in admission._spans.values())
