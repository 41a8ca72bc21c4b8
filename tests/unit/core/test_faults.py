"""Pydantic's errors, as people are told of them: what is wrong with the value, and what to give."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from monitoring.core.faults import one_line, tell


def _even(number: int) -> int:
    if number % 2:
        raise ValueError("it is odd: give an even number")
    return number


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, StringConstraints(min_length=1, max_length=5)] = "x"
    code: Annotated[str, StringConstraints(min_length=3, pattern="^[a-z]+$")] = "abc"
    count: Annotated[int, Field(ge=1, lt=10)] = 1
    size: Annotated[int, Field(ge=1_048_576)] = 2_000_000
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.5
    even: Annotated[int, AfterValidator(_even)] = 2
    flag: bool = False
    items: Annotated[list[int], Field(min_length=1, max_length=2)] = [1]
    pairs: dict[Annotated[str, Field(max_length=2)], str] = {}
    colour: Colour = Colour.RED
    way: Literal["up", "down"] = "up"
    at: AwareDatetime | None = None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"text": 7}, "text is 7: give a text in quotes"),
        ({"text": None}, "text is null: give a text in quotes"),
        ({"text": ""}, "text is empty: give at least 1 character"),
        ({"text": "abcdef"}, "text has 6 characters: give at most 5 characters"),
        ({"code": "ab"}, "code has 2 characters: give at least 3 characters"),
        ({"count": 0}, "count is 0: give a number of at least 1"),
        ({"count": 10}, "count is 10: give a number below 10"),
        ({"count": "many"}, 'count is "many": give a whole number'),
        ({"count": 2.5}, "count is 2.5: give a whole number"),
        ({"size": 1}, "size is 1: give a number of at least 1048576"),
        ({"share": 0}, "share is 0: give a number above 0"),
        ({"share": 1.5}, "share is 1.5: give a number of at most 1"),
        ({"share": float("nan")}, "share is NaN: give a finite number"),
        ({"share": "half"}, 'share is "half": give a number'),
        ({"even": 3}, "even is 3: it is odd: give an even number"),
        ({"flag": "perhaps"}, 'flag is "perhaps": give true or false'),
        ({"items": []}, "items is empty: give at least 1 entry"),
        ({"items": [1, 2, 3]}, "items has 3 entries: give at most 2 entries"),
        ({"items": "one"}, 'items is "one": give a list, such as [1, 2]'),
        ({"pairs": [1]}, 'pairs is [1]: give an object, such as {"name": "value"}'),
        ({"pairs": {"abc": "v"}}, "pairs has a name that has 3 characters: give at most 2 characters"),
        ({"colour": "green"}, "colour is \"green\": give 'red' or 'blue'"),
        ({"way": "left"}, "way is \"left\": give 'up' or 'down'"),
        ({"at": "noon"}, 'at is "noon": give a time with its zone, such as 2026-01-05T12:00:00+00:00'),
        (
            {"at": "2026-01-05T12:00:00"},
            'at is "2026-01-05T12:00:00": give a time with its zone, such as 2026-01-05T12:00:00+00:00',
        ),
        ({"kolour": "red"}, "kolour is not known: leave it out, or check how it is spelt"),
    ],
)
def test_a_fault_names_the_field_its_value_and_the_cure(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Form.model_validate(given)
    (fault,) = caught.value.errors()
    assert tell(str(fault["loc"][0]), fault) == told


def test_a_fault_of_a_kind_without_words_of_ours_keeps_pydantics() -> None:
    with pytest.raises(ValidationError) as caught:
        Form.model_validate({"code": "ABC"})
    assert tell("code", caught.value.errors()[0]) == "code is \"ABC\": String should match pattern '^[a-z]+$'"


def test_a_long_value_is_cut_and_a_strange_one_stays_on_its_line() -> None:
    fault = {"type": "int_parsing", "loc": ("count",), "input": "a\n\ud800" + "b" * 1000}
    told = tell("count", fault)
    assert told.startswith('count is "a\\n\\ud800bbb')
    assert told.endswith("bbb…: give a whole number")
    assert len(told) < 120


def test_half_characters_and_line_ends_are_escaped() -> None:
    assert one_line("schön\n\udc00 😀") == "schön\\n\\udc00 😀"
