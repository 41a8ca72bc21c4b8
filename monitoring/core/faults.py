"""What is wrong with a value and how to put it right: pydantic's errors in the words of those who made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LONGEST = 60
A_TIME = "a time with its zone, such as 2026-01-05T12:00:00+00:00"
WANTED: Mapping[str, str] = {
    "text": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "list": "a list, such as [1, 2]",
    "tuple": "a list, such as [1, 2]",
    "dict": 'an object, such as {"name": "value"}',
    "model": 'an object, such as {"name": "value"}',
    "half": "a text in UTF-8, without half characters (lone surrogates)",
    "datetime": A_TIME,
    "timezone": A_TIME,
}
"""What to give instead, by the first word of pydantic's error type: `int_parsing`, `int_from_float`, `bool_type`, …"""
ALIASES = {"string_type": "text", "string_unicode": "half"}
BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "of at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "of at most"),
}
"""Of each kind of bound, where pydantic keeps it and how it is said."""


def tell(name: str, error: Mapping[str, Any]) -> str:
    """The field called `name`, what is wrong with its value, and what to give: one of `ValidationError.errors()`.

    >>> tell("top_k", {"type": "greater_than_equal", "loc": ("top_k",), "input": 0, "ctx": {"ge": 1}})
    'top_k is 0: give a number of at least 1'
    """
    whose = "has a name that " if error["loc"][-1:] == ("[key]",) else ""
    return f"{_short(name)} {whose}{_fault(error)}"


def one_line(text: str) -> str:
    """Without line ends and half characters, whatever a stranger wrote into it: these are escaped."""
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def _fault(error: Mapping[str, Any]) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return "is missing: give it, it is required"
    if kind == "extra_forbidden":
        return "is not known: leave it out, or check how it is spelt"
    if kind in ("string_too_short", "string_too_long", "too_short", "too_long"):
        unit, units = ("character", "characters") if kind.startswith("string") else ("entry", "entries")
        bound = context["max_length" if kind.endswith("long") else "min_length"]
        held = f"has {len(value)} {units}" if value else "is empty"
        return f"{held}: give at {'most' if kind.endswith('long') else 'least'} {bound} {unit if bound == 1 else units}"
    shown = _short(json.dumps(value, ensure_ascii=False, default=str))
    return f"is {shown}: {_cure(kind, error.get('msg', ''), context)}"


def _cure(kind: str, message: str, context: Mapping[str, Any]) -> str:
    if kind in BOUNDS:
        key, words = BOUNDS[kind]
        bound = context[key]
        return f"give a number {words} " + (f"{bound:g}" if isinstance(bound, float) else str(bound))
    if kind in ("enum", "literal_error"):
        return f"give {context['expected']}"
    wanted = WANTED.get(ALIASES.get(kind) or kind.partition("_")[0])
    return f"give {wanted}" if wanted else message.removeprefix("Value error, ")


def _short(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= LONGEST else line[:LONGEST] + "…"
