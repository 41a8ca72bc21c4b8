"""What a client sends, when it tries again, and what it makes of an answer: without any service."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, TypeVar

import httpx
import pytest

from monitoring.core.errors import DeadlineExceeded, InvalidInput, LeewayError, NotReady, Overloaded, TooLarge
from service import exchange
from service.exchange import Feedback, Outcome, Pause, Post, Retries, Step, chunks, feedback, prediction, refusal

T = TypeVar("T")
ANSWER = {"id": "1", "label": "a", "probability": 0.9, "top_k": [], "version": "m@1", "variant": "production"}
REQUEST = httpx.Request("POST", "http://leeway/v1/models/m/predict")


def play(steps: Generator[Step, Outcome, T], *outcomes: Outcome) -> tuple[T, list[Step]]:
    """Answer each post with the next outcome; what came of it, and the steps taken."""
    waiting, taken = list(outcomes), []
    outcome: Outcome = None
    try:
        while True:
            taken.append(steps.send(outcome))
            outcome = waiting.pop(0) if isinstance(taken[-1], Post) else None
    except StopIteration as end:
        assert not waiting
        return end.value, taken


def answered(status: int, body: Any, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=body, headers=headers, request=REQUEST)


def refused(status: int, code: str, field: str | None = None, **headers: str) -> httpx.Response:
    message = f"{field} is wrong" if field else "no"
    return answered(status, {"error": {"code": code, "message": message, "field": field}}, **headers)


def test_texts_go_in_pieces_of_a_size_and_of_about_a_megabyte() -> None:
    assert [(start, len(piece)) for start, piece in chunks(["a"] * 130, 64)] == [(0, 64), (64, 64), (128, 2)]
    assert [(start, len(piece)) for start, piece in chunks(["a" * 100_000] * 5, 64)] == [(0, 2), (2, 2), (4, 1)]
    assert [len(piece) for _, piece in chunks(["a" * 2_000_000], 64)] == [1]
    assert list(chunks([], 64)) == []


def test_an_answer_after_refusals_that_pass_and_never_sooner_than_asked() -> None:
    steps = prediction("m", ["x"], 0, None, None, None, Retries())
    busy, gone = refused(429, "overloaded", **{"retry-after": "3"}), httpx.ConnectError("refused")
    (only,), taken = play(steps, busy, gone, answered(200, {"predictions": [ANSWER]}))
    assert only.label == "a"
    assert [type(step) for step in taken] == [Post, Pause, Post, Pause, Post]
    assert isinstance(taken[1], Pause)
    assert taken[1].seconds >= 3
    assert isinstance(taken[3], Pause)
    assert taken[3].seconds <= 0.4


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (refused(422, "invalid_input", "inputs[0]"), InvalidInput),
        (refused(413, "too_large"), TooLarge),
        (refused(504, "deadline_exceeded"), DeadlineExceeded),
        (httpx.ReadTimeout("slow"), DeadlineExceeded),
        (httpx.UnsupportedProtocol("ftp"), NotReady),
        (refused(429, "overloaded", **{"retry-after": "60"}), Overloaded),
    ],
)
def test_what_asking_again_cannot_cure_is_raised_at_once(outcome: Outcome, error: type[LeewayError]) -> None:
    with pytest.raises(error) as raised:
        play(prediction("m", ["x"], 0, None, None, None, Retries()), outcome)
    assert type(raised.value) is error


def test_a_service_that_stays_away_is_given_up_after_the_last_attempt() -> None:
    with pytest.raises(NotReady, match="is it up"):
        play(prediction("m", ["x"], 0, None, None, None, Retries(attempts=3)), *[httpx.ConnectError("no")] * 3)


def test_pauses_double_up_to_the_longest() -> None:
    retries = Retries(attempts=99, first_seconds=1.0, longest_seconds=8.0)
    pauses = [retries.pause(attempt, 0.0, 0.5) or 0.0 for attempt in range(1, 8)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0]
    assert all(later >= sooner for sooner, later in pairwise(pauses))
    assert retries.pause(99, 0.0, 0.5) is None


def test_a_refusal_names_the_text_as_the_caller_counts() -> None:
    with pytest.raises(InvalidInput, match=r"inputs\[67\] is wrong") as raised:
        play(prediction("m", ["x"] * 4, 64, None, None, None, Retries()), refused(422, "invalid_input", "inputs[3]"))
    assert raised.value.field == "inputs[67]"
    item = Feedback("1", source="ground_truth", label="a")
    with pytest.raises(InvalidInput) as raised:
        play(feedback([item], 256, Retries()), refused(422, "invalid_input", "items[0].label"))
    assert raised.value.field == "items[256].label"


def test_half_a_character_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidInput, match=r"inputs\[65\] holds half a character"):
        play(prediction("m", ["x", "\ud800"], 64, None, None, None, Retries()))


def test_the_page_of_a_proxy_is_told_as_it_is() -> None:
    error = refusal(httpx.Response(403, text="<html>no entry", request=REQUEST))
    assert type(error) is LeewayError
    assert "answered 403: <html>no entry" in error.message


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7), ("Mon, 05 Jan 2026 12:00:30 GMT", 30), ("Mon, 05 Jan 2026 11:00:00 GMT", 0), ("soon", 0), ("", 0)],
)
def test_retry_after_is_seconds_or_a_date(said: str, seconds: float) -> None:
    response = httpx.Response(503, headers={"retry-after": said})
    assert exchange._retry_after(response, datetime(2026, 1, 5, 12, tzinfo=UTC)) == seconds
