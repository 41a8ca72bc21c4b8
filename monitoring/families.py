"""Metric families with labels, and what may be put into them."""

from __future__ import annotations

import math

from prometheus_client.core import GaugeMetricFamily

OF_A_VERSION = ("model", "version")


def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """A gauge that has a value for each combination of `labels`."""
    return GaugeMetricFamily(name, text, labels=labels)


def add(metric: GaugeMetricFamily, labels: tuple[str, ...], value: float | None) -> None:
    """Leave out what is not known: a gap in a graph is honest, a zero is not."""
    if value is not None and math.isfinite(value):
        metric.add_metric(labels, value)
