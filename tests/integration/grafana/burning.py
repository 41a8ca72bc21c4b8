"""Rule tests for the budgets' windows and thresholds, made by arithmetic: each edge from both sides, within 4 %."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

END = 3 * 24 * 60  # minutes; the only moment at which the rules are evaluated
WINDOWS = {"5m": 5, "30m": 30, "1h": 60, "2h": 120, "6h": 360, "1d": 1440, "3d": END}
PAIRS = (("1h", "5m", 14.4), ("6h", "30m", 6.0), ("1d", "2h", 3.0), ("3d", "6h", 1.0))
SECONDS = 15
REACH = 3  # windows; more than a query of promtool's may read where the window is days, so END at most
PER_STEP = 100_000
ORDER = ["leeway-objectives", "leeway-objectives-slow", "leeway-budgets"]

Kind = Literal["errors", "slow"]
OBJECTIVE: dict[Kind, float] = {"errors": 0.001, "slow": 0.01}
ALERT: dict[Kind, str] = {"errors": "LeewayErrors", "slow": "LeewayLatency"}
RECORD: dict[Kind, str] = {"errors": "job:leeway_http_errors", "slow": "job:leeway_slow_predictions"}


@dataclass(frozen=True)
class Story:
    """A job's share of bad requests over `reach` minutes: `share` before the last `minutes`, `late` in them.

    `busier`: so many times the requests come in the last minutes.
    """

    job: str
    share: float
    late: float
    minutes: int
    reach: int
    busier: int = 1


def suite(rules: Path, about: str = "") -> str:
    """A file for `promtool test rules`, which reads JSON as the YAML that it is; only the tests named so."""
    every = [test for kind in OBJECTIVE for test in (*_windows(kind), *_thresholds(kind))]
    tests = [test for test in every if about in test["name"]]
    text = {"rule_files": [str(rules)], "evaluation_interval": f"{END}m", "group_eval_order": ORDER, "tests": tests}
    return json.dumps(text)


def _windows(kind: Kind) -> Iterator[dict[str, Any]]:
    """All requests are bad, and twice as many come, since the middle of a window: two thirds, in that window alone."""
    for name, minutes in WINDOWS.items():
        late = max(minutes // 2, 3)
        story = Story(name, 0.0, 1.0, late, min(REACH * minutes, END), busier=2)
        share = 0.05 * round(2 * late / (minutes + late) / 0.05)
        expected = {"expr": f"round({RECORD[kind]}:ratio_rate{name}, 0.05)", "eval_time": f"{END}m"}
        samples = [{"labels": f'{{job="{name}"}}', "value": share}]
        yield _test(
            kind,
            f"{kind}: the half of {name}.",
            [story],
            SECONDS if minutes <= 60 else 60,
            [expected | {"exp_samples": samples}],
        )


def _thresholds(kind: Kind) -> Iterator[dict[str, Any]]:
    """Both windows have to be above: one that is barely below is enough to be quiet, however high the other is."""
    for long, short, factor in PAIRS:
        limit, reach = factor * OBJECTIVE[kind], min(REACH * WINDOWS[long], END)
        stories = [
            Story("both", 1.04 * limit, 1.04 * limit, 1, reach),
            Story("short-below", 2 * limit, 0.96 * limit, WINDOWS[short], reach),
            Story("long-below", _before(0.96 * limit, 2 * limit, long, short), 2 * limit, WINDOWS[short], reach),
        ]
        severity = "critical" if factor > 5 else "warning"
        labels = f'alertname="{ALERT[kind]}", alertstate="firing", severity="{severity}", window="{long}", job="both"'
        fires = [{"labels": f"ALERTS{{{labels}}}", "value": 1}]
        asked = {"expr": f'ALERTS{{alertname="{ALERT[kind]}", window="{long}"}}', "eval_time": f"{END}m"}
        yield _test(
            kind, f"{kind}: {factor:g} times over {long} and {short}", stories, 60, [asked | {"exp_samples": fires}]
        )


def _before(mean: float, late: float, long: str, short: str) -> float:
    """The share before the short window that makes `mean` over the long one."""
    return (mean * WINDOWS[long] - late * WINDOWS[short]) / (WINDOWS[long] - WINDOWS[short])


def _test(kind: Kind, name: str, stories: Sequence[Story], step: int, expected: list[dict[str, Any]]) -> dict[str, Any]:
    series = [one for story in stories for one in _series(kind, story, step)]
    return {"name": name, "interval": f"{step}s", "input_series": series, "promql_expr_test": expected}


def _series(kind: Kind, story: Story, step: int) -> Iterator[dict[str, str]]:
    """What the rule counts, and beside it what it must not: probes and scrapes, other routes, other buckets."""
    late = story.minutes * 60 // step
    early = story.reach * 60 // step - late
    every, every_late = PER_STEP, PER_STEP * story.busier
    bad, bad_late = round(story.share * every), round(story.late * every_late)
    good, good_late = every - bad, every_late - bad_late
    if kind == "errors":
        counted = f'job="{story.job}", route="/v1/feedback"'
        probes = f'job="{story.job}", route="/v2/health/ready"'
        model_probes = f'job="{story.job}", route="/v2/models/{{model}}/ready"'
        rises = {
            f'leeway_http_requests_total{{{counted}, status="503"}}': (bad, bad_late),
            f'leeway_http_requests_total{{{counted}, status="404"}}': (good, good_late),
            f'leeway_http_requests_total{{{probes}, status="503"}}': (every, every_late),
            f'leeway_http_requests_total{{{model_probes}, status="503"}}': (every, every_late),
        }
    else:
        seconds, counted = "leeway_request_duration_seconds", f'job="{story.job}", route="/v1/models/{{model}}/predict"'
        other = f'job="{story.job}", route="/console"'
        rises = {
            f'{seconds}_bucket{{{counted}, le="0.2"}}': (good, good_late),
            f'{seconds}_bucket{{{counted}, le="0.35"}}': (every, every_late),
            f"{seconds}_count{{{counted}}}": (every, every_late),
            f'{seconds}_bucket{{{other}, le="0.2"}}': (every, 0),
            f"{seconds}_count{{{other}}}": (every, every_late),
        }
    for name, (rise, late_rise) in rises.items():
        yield _counter(step, name, rise, early, late_rise, late)


def _counter(step: int, name: str, rise: int, early: int, late_rise: int, late: int) -> dict[str, str]:
    """`early` steps with one rise, then `late` with another, which end at END; nothing before."""
    reached = rise * early
    nothing = END * 60 // step - early - late
    values = f"0+{rise}x{early} {reached + late_rise}+{late_rise}x{late - 1}"
    return {"series": name, "values": f"_x{nothing} {values}" if nothing else values}
