"""PromQL as the panels need it: every selector obeys the dashboard's variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

INSTANCES = ('job=~"$job"', 'instance=~"$instance"')
MODEL = 'model=~"$model"'
VERSION = 'version=~"$version"'
ASKED = 'route!~"/metrics|/health|/v2/.*/(live|ready)"'  # what callers ask: a probe that is told "not yet" is no error
PREDICTING = 'route=~".*/(predict|infer|ModelInfer)"'


@dataclass(frozen=True)
class Query:
    """One target of a panel. `legend` may name labels, as in `{{model}}`."""

    expr: str
    legend: str = ""
    format: Literal["time_series", "table", "heatmap"] = "time_series"
    instant: bool = False


def equals(label: str, value: str) -> str:
    """A matcher."""
    return f'{label}="{value}"'


def select(metric: str, *matchers: str) -> str:
    """A metric of the chosen jobs and instances."""
    return f"{metric}{{{', '.join((*INSTANCES, *matchers))}}}"


def rate(metric: str, *matchers: str) -> str:
    """How fast a counter grows, per second."""
    return f"rate({select(metric, *matchers)}[$__rate_interval])"


def growth(metric: str, *matchers: str, by: str = "") -> str:
    """A counter's growth over the time shown, over all instances."""
    grown = f"increase({select(metric, *matchers)}[$__range])"
    return f"sum by ({by}) ({grown})" if by else f"sum({grown})"


def total_rate(metric: str, *matchers: str, by: str = "") -> str:
    """A counter's growth over all instances: each instance counts its own part."""
    return f"sum by ({by}) ({rate(metric, *matchers)})" if by else f"sum({rate(metric, *matchers)})"


def ledger(metric: str, *matchers: str, by: str = "model") -> str:
    """A gauge read from the ledger: every monitor shows the same value, so that a sum would count it twice."""
    return f"max by ({by}) ({select(metric, *matchers)})"


def limit(of: str) -> str:
    """What the settings tolerate or ask for, as one line."""
    return f"max({select('leeway_limit', equals('of', of))})"


def quantile(q: float, histogram: str, *matchers: str, by: str = "") -> str:
    """A quantile of a histogram over all instances."""
    labels = f"le, {by}" if by else "le"
    found = f"histogram_quantile({q}, {total_rate(f'{histogram}_bucket', *matchers, by=labels)})"
    return f"({found} >= 0)"  # nan where nothing was observed becomes a gap


def mean(histogram: str, *matchers: str, by: str = "") -> str:
    """The mean of what a histogram saw."""
    return ratio(total_rate(f"{histogram}_sum", *matchers, by=by), total_rate(f"{histogram}_count", *matchers, by=by))


def ratio(part: str, whole: str) -> str:
    """`part / whole`; a gap where there was nothing to divide."""
    return f"{part} / ({whole} > 0)"


def by_state(metric: str, label: str, states: Mapping[int, tuple[str, str]]) -> str:
    """Which of its states a model is in, as one number: `metric` is 1 under the state's name in `label`."""
    found = (f"{value} * {select(metric, MODEL, equals(label, name))}" for value, (name, _) in states.items())
    return f"max by (model) ({' or '.join(found)})"
