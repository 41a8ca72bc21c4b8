"""What a load adds up to."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from service.load import Exchanged, Plan, arrivals, bodies_of, summarise

PLAN = Plan("http://x", "/m", "k", [b"{}"], texts_per_request=1, seconds=100.0, rate=50.0)


def test_a_latency_counts_from_when_the_request_was_due() -> None:
    stalled = [Exchanged(due=float(second), sent=9.0, over=10.0, status=200) for second in range(10)]
    borne = summarise(stalled, texts_per_request=1)
    assert borne.latency_ms["max"] == pytest.approx(10_000)
    assert borne.latency_ms["p50"] == pytest.approx(5_500)
    assert borne.sent_late_ms > 8_000
    assert borne.seconds == 10.0


def test_only_answers_have_a_latency_and_count_as_throughput() -> None:
    statuses = [200, 429, 503, 504, 0, 200]
    borne = summarise([Exchanged(0.0, 0.0, 2.0, status) for status in statuses], texts_per_request=8)
    assert (borne.requests, borne.answered) == (6, 2)
    assert borne.refused == {429: 1, 503: 1}
    assert borne.failed == {0: 1, 504: 1}
    assert borne.texts_per_second == 8.0


def test_nothing_answered_and_nothing_asked_are_told_without_numbers() -> None:
    assert summarise([Exchanged(0.0, 0.0, 1.0, 429)], texts_per_request=1).latency_ms == {}
    assert summarise([], texts_per_request=1).requests == 0


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    moments = np.array(list(arrivals(PLAN)))
    gaps = np.diff(moments)
    assert len(moments) == pytest.approx(5000, abs=4 * 5000**0.5)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)
    assert moments.max() < 100.0
    assert list(arrivals(PLAN)) == list(arrivals(replace(PLAN, seconds=100.0)))
    assert list(arrivals(PLAN)) != list(arrivals(replace(PLAN, seed=1)))


def test_bodies_hold_as_many_texts_as_asked_for() -> None:
    sizes = [[len(json.loads(body)["inputs"]) for body in bodies_of(["a"] * 10, size)] for size in (1, 4, 16)]
    assert sizes == [[1] * 10, [4, 4], [16]]
