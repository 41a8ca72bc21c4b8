"""A rule with one small mistake in it, of every kind that a hurried edit makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Rule = Mapping[str, Any]

QUOTED = re.compile(r'"[^"]*"')
NUMBER = re.compile(r"(?<![\w.\"\[])\d+(?:\.\d+)?(?![\w.\"])")
RANGE = re.compile(r"\[(\d+)([smhd])\]")
MATCHER = re.compile(r"(?P<before>[{,]\s*)\w+(?:=~|!~|!=|=)\"[^\"]*\"")
WORDS = {"and": "or", "or": "and", "unless": "and"}
SIGNS = {">": "<", "<": ">", "==": "!="}
SOONER_OR_LATER = {"for": (0.5, 2), "keep_firing_for": (0.5, 2)}


def mutants(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """What was changed, and the rule with it: never two changes at once."""
    expr = str(rule["expr"])
    for changed in _expressions(expr):
        yield changed, {**rule, "expr": changed}
    for key, factors in SOONER_OR_LATER.items():
        if key in rule:
            for factor in factors:
                yield f"{key} x {factor}", {**rule, key: _times(str(rule[key]), factor)}
            yield f"no {key}", {name: value for name, value in rule.items() if name != key}
    if "alert" in rule:
        yield "severity", {**rule, "labels": {**rule["labels"], "severity": "other"}}


def _expressions(expr: str) -> Iterator[str]:
    bare = QUOTED.sub(lambda found: '"' + "_" * (len(found[0]) - 2) + '"', expr)
    yield from _each(NUMBER, expr, bare, _numbers)
    yield from _each(RANGE, expr, bare, lambda found: [f"[{_times(found[1] + found[2], by)}]" for by in (0.5, 2)])
    yield from _each(re.compile(r"==|[<>]"), expr, bare, lambda found: [SIGNS[found[0]]])
    yield from _each(re.compile(r"\b(and|or|unless)\b"), expr, bare, lambda found: [WORDS[found[0]]])
    yield from _each(MATCHER, expr, expr, lambda found: [found["before"]])


def _each(pattern: re.Pattern[str], expr: str, bare: str, put: Callable[[re.Match[str]], list[str]]) -> Iterator[str]:
    """`expr` with one place changed, for each place that `pattern` finds in `bare`."""
    for found in pattern.finditer(bare):
        for text in put(found):
            yield _tidy(expr[: found.start()] + text + expr[found.end() :])


def _numbers(found: re.Match[str]) -> list[str]:
    value = float(found[0])
    return ["1"] if value == 0 else [f"{value * 0.9:g}", f"{value * 1.1:g}"]


def _times(duration: str, factor: float) -> str:
    seconds = int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]
    return f"{round(seconds * factor)}s"


def _tidy(expr: str) -> str:
    """Without the comma that a matcher leaves behind."""
    return re.sub(r",\s*(?=[,}])", "", re.sub(r"\{\s*,\s*", "{", expr))
