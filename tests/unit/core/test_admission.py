"""One client weighs a bounded amount a minute, less where it repeats itself, and ordinary traffic counts whole."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.admission import BUCKETS, KEPT, Admission, bounds

SECOND = 1_000_000


def row(unit: str, text: str | None, *, second: float = 0.0, version: str = "v1") -> dict[str, Any]:
    return {"version": version, "unit": unit, "text": text, "at_us": int(second * SECOND)}


def few(n: int, share: float = 0.01) -> Admission:
    return Admission(bounds(per_minute=n, repeats_per_hour=n, share=share))


def test_ordinary_traffic_counts_whole() -> None:
    rows = [row(f"client-{n % 40}", f"message {n}", second=n) for n in range(600)]
    assert all(Admission().judge(rows))


@pytest.mark.parametrize("an_hour", [100, 600, 40_000])
def test_what_many_clients_write_counts_however_common_it_is(an_hour: int, rng: np.random.Generator) -> None:
    """A fifth of all messages is one text: bounded, the traffic would never again be like its baseline."""
    common = rng.random(2 * an_hour) < 0.2
    seconds = np.sort(rng.uniform(0, 7200, 2 * an_hour))
    rows = [
        row(f"client-{n}", "thanks" if same else f"message {n}", second=second)
        for n, (same, second) in enumerate(zip(common, seconds, strict=True))
    ]
    assert all(Admission().judge(rows))


def test_a_bot_counts_up_to_the_floor_and_then_for_its_share() -> None:
    people = [row(f"client-{n}", f"message {n}", second=n / 100) for n in range(2000)]
    bot = [row("bot", f"attempt {n}", second=n / 100) for n in range(2000)]
    mixed = [each for pair in zip(people, bot, strict=True) for each in pair]
    counted = Admission().judge(mixed)
    assert all(counted[0::2])
    assert sum(counted[1::2]) == 106  # 5 % of what counts
    assert all(counted[1:60:2])  # the first thirty


def test_a_client_that_repeats_itself_counts_for_five_rows_an_hour() -> None:
    people = [row(f"client-{n}", f"message {n}", second=20 * n) for n in range(360)]
    bot = [row("bot", "buy now", second=second) for second in (30, 3700) for _ in range(500)]
    counted = Admission().judge(sorted([*people, *bot], key=lambda one: one["at_us"]))
    assert sum(counted) == 360 + 10


def test_a_bot_at_the_end_of_a_busy_hour_does_not_spend_its_share_at_once() -> None:
    """With the share of the whole hour it would count for 175 rows in a row, which no detector takes for chance."""
    people = [row(f"client-{n}", f"message {n}", second=n) for n in range(3500)]
    bot = [row("bot", "buy now", second=3500 + n / 50) for n in range(500)]
    counted = Admission().judge([*people, *bot])
    assert sum(counted) == 3500 + 5


def test_clients_who_say_the_same_now_and_then_count_whole(rng: np.random.Generator) -> None:
    """In an hour of ten messages each, two of them the same word on average; few lose a row."""
    n, clients = 12_000, 60
    seconds = np.sort(rng.uniform(0, 20 * 3600, n))
    said = np.where(rng.random(n) < 0.2, "yes", [f"message {number}" for number in range(n)])
    who = rng.integers(0, clients, n)
    rows = [
        row(f"{int(second // 3600)}-{client}", str(text), second=second)
        for second, client, text in zip(seconds, who, said, strict=True)
    ]
    assert np.mean(Admission().judge(rows)) > 0.999


def test_a_text_that_floods_is_bounded_whoever_sends_it_where_texts_are_kept() -> None:
    assert sum(Admission().judge([row(f"c{n}", "buy now") for n in range(500)])) == 30
    assert sum(Admission().judge([row(f"c{n}", None) for n in range(500)])) == 500


def test_every_minute_and_every_version_begins_anew() -> None:
    admission = few(5)
    client = [row("bot", f"attempt {second}.{n}", second=second) for second in (0, 61) for n in range(20)]
    assert sum(admission.judge(client)) == 10
    assert sum(admission.judge([row("bot", "hello", version="v2") for _ in range(20)])) == 5


def test_what_was_shipped_before_is_remembered_within_the_minute() -> None:
    admission = few(5)
    assert [sum(admission.judge([row("bot", "hello", second=n)] * 4)) for n in range(3)] == [4, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300)), max_size=200))
def test_no_client_ever_weighs_more_than_its_bound(sent: list[tuple[int, int]]) -> None:
    rows = [row(f"client-{client}", f"{n}", second=second) for n, (client, second) in enumerate(sent)]
    counted = few(3, share=0.2).judge(rows)
    weights, totals = Counter[tuple[int, int]](), Counter[int]()
    for (client, second), counts in zip(sent, counted, strict=True):
        totals[second // 60] += 1
        weights[client, second // 60] += counts
    assert all(weight <= max(3, 0.2 * totals[minute] + 1) for (_, minute), weight in weights.items())


def test_the_state_is_bounded() -> None:
    admission = Admission()
    admission.judge([row(f"client-{n}", f"message {n}", second=n / 100) for n in range(100_000)])
    assert len(admission._spans) <= KEPT * len(bounds())
    assert all(max(len(span.counted), len(span.before)) <= BUCKETS for span in admission._spans.values())
