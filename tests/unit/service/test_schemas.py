"""Limits on what callers send, at their edges."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from monitoring.core.errors import InvalidInput, LeewayError, TooLarge
from monitoring.core.settings import ServerSettings
from service.schemas import FeedbackBatch, FeedbackItem, FeedbackRequest, PredictRequest, check_texts

LIMITS = ServerSettings(max_texts=3, max_text_bytes=8)


def _refusal(*texts: str, limits: ServerSettings = LIMITS) -> LeewayError:
    with pytest.raises(InvalidInput) as refused:
        check_texts(texts, limits)
    return refused.value


def test_texts_up_to_the_limits_pass() -> None:
    check_texts(["12345678", "üüüü", "a"], LIMITS)


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u2003"])
def test_an_empty_text_is_named(text: str) -> None:
    assert _refusal("a", text).field == "inputs[1]"


@pytest.mark.parametrize(("text", "size"), [("123456789", 9), ("üüüüa", 9), ("😀😀😀", 12)])
def test_a_text_is_measured_in_utf8(text: str, size: int) -> None:
    refusal = _refusal("a", "b", text)
    assert isinstance(refusal, TooLarge)
    assert refusal.field == "inputs[2]"
    assert f"{size} bytes" in refusal.message


def test_half_a_character_is_no_text() -> None:
    assert _refusal("\ud83d").field == "inputs[0]"


def test_more_texts_than_the_queue_could_ever_hold_are_refused_for_good() -> None:
    assert isinstance(_refusal("a", "b", limits=ServerSettings(queue_size=1)), TooLarge)
    assert isinstance(_refusal("a", "b", "c", "d"), TooLarge)


def test_the_examples_in_the_documentation_are_valid() -> None:
    for shape in (PredictRequest, FeedbackItem):
        extra: Any = shape.model_config["json_schema_extra"]
        for example in extra["examples"]:
            shape.model_validate(example)


def test_one_piece_of_feedback_and_several_are_told_apart() -> None:
    request: TypeAdapter[FeedbackItem | FeedbackBatch] = TypeAdapter(FeedbackRequest)
    item = {"prediction_id": "x", "source": "review", "rating": 1.0}
    assert isinstance(request.validate_python(item), FeedbackItem)
    assert isinstance(request.validate_python({"items": [item]}), FeedbackBatch)
    with pytest.raises(ValidationError):
        request.validate_python({"items": [item], "rating": 1.0})
