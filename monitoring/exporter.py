"""What the ledger knows, as Prometheus metrics: read at each scrape, so that any monitor may be scraped."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from monitoring.budget import alarm_budget
from monitoring.core.ledger import alerts, ticks, verdicts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import Settings
from monitoring.core.types import Clock
from monitoring.episodes import EPISODES
from monitoring.families import OF_A_VERSION, add, gauge
from monitoring.shipping import Shipped, shipments
from monitoring.work_metrics import job_metrics, rollout_metrics, version_metrics

log = logging.getLogger(__name__)

OF_A_SIGNAL = (*OF_A_VERSION, "signal")
OF_A_BIN = (*OF_A_VERSION, "bin")
ROUTINE_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
SIGNAL_GAUGES = {
    "leeway_drift_statistic": ("statistic", "Test statistic of the last window, by signal."),
    "leeway_drift_threshold": ("threshold", "Tolerated shift of a signal: its leeway."),
    "leeway_drift_effect": ("effect", "How far a signal moved in the last window: a distance in [0, 1]."),
    "leeway_drift_signal_severity": (
        "severity",
        "A signal in the last window: 0 as ever, 1 moved, 2 moved beyond its leeway.",
    ),
}
BIN_GAUGES = {
    "leeway_reliability_promised": ("promised", "Mean confidence of the labelled answers of a bin of confidence."),
    "leeway_reliability_true": ("true", "Share of right answers among them."),
    "leeway_reliability_labels": ("labels", "How many they are."),
}
VERSION_GAUGES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "leeway_drift_severity": (("severity",), "The last window: 0 stable, 1 notice, 2 drift, -1 inconclusive."),
    "leeway_detector_log_statistic": (("detector", "log_statistic"), "The per-prediction detector's evidence, as log."),
    "leeway_detector_log_threshold": (
        ("detector", "log_threshold"),
        "Where the per-prediction detector alarms, as log.",
    ),
    "leeway_drift_window_end_timestamp_seconds": (("window", "end"), "When the last window ended."),
    "leeway_drift_window_pending": (("window", "pending"), "Predictions in the window that is filling."),
    "leeway_accuracy_baseline": (("baseline_accuracy",), "Accuracy on the hold-out at the version's birth."),
    "leeway_accuracy_floor": (("accuracy_floor",), "Accuracy at the version's birth, less the tolerated loss."),
    "leeway_baseline_timestamp_seconds": (("baseline_since",), "Since when traffic is held against this baseline."),
    "leeway_calibration_gap": (("gap",), "Accuracy that confidences promise minus accuracy by labels."),
    "leeway_labelled_predictions": (("labelled",), "Predictions of the version with a recent label."),
    "leeway_new_labels": (("new_labels",), "Labelled predictions that no retraining knew yet."),
}
NESTED_GAUGES = {
    "leeway_accuracy_estimated": ("bound", "estimated", "Accuracy of the last window, estimated without its labels."),
    "leeway_accuracy_realised": ("bound", "realised", "Accuracy by recent outcome-blind labels."),
    "leeway_calibration_error": ("metric", "calibration", "Calibration on recent outcome-blind labels."),
    "leeway_calibration_baseline": (
        "metric",
        "baseline_calibration",
        "The same on the hold-out at the version's birth.",
    ),
    "leeway_label_test_log_statistic": ("test", "label_tests", "Evidence of a test on labels, as log e-value."),
}

Reading = tuple[tuple[str, str], Mapping[str, Any]]
"""Model and version name, with the gauges that the monitor kept of it."""


class LedgerCollector(Collector):
    """Makes metrics of one consistent reading of the ledger; of a ledger that cannot be read, `leeway_monitor_up 0`."""

    def __init__(self, ledger: Ledger, clock: Clock, *, settings: Settings, missed_firings: Callable[[], int]) -> None:
        self._ledger = ledger
        self._now = clock
        self._limits = limits_of(settings)
        self._missed = missed_firings

    def describe(self) -> Iterable[Metric]:
        """Nothing: names depend on what the ledger holds."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics, or that there are none."""
        up = GaugeMetricFamily("leeway_monitor_up", "1 while the monitor can read the ledger.")
        missed = CounterMetricFamily("leeway_monitor_missed_firings", "Firings that the monitor's clock missed.")
        missed.add_metric([], self._missed())
        limits = GaugeMetricFamily("leeway_limit", "What the settings tolerate or ask for.", labels=("of",))
        for of, limit in self._limits.items():
            limits.add_metric((of,), limit)
        try:
            with self._ledger.read() as connection:
                metrics = list(read_metrics(connection, now=self._now()))
        except SQLAlchemyError:
            log.exception("the ledger cannot be read; the scrape says so")
            up.add_metric([], 0)
            yield from (up, missed, limits)
            return
        up.add_metric([], 1)
        yield from (up, missed, limits, *metrics)


class RoutineMetrics:
    """What this monitor's own workers did: each monitor counts its part."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "leeway_routine_duration_seconds",
            "One run of a routine.",
            ("routine",),
            buckets=ROUTINE_SECONDS,
            registry=registry,
        )
        self._failures = Counter("leeway_routine_failures", "Runs that failed.", ("routine",), registry=registry)

    def ran(self, routine: str, seconds: float, *, failed: bool) -> None:
        """One run has ended."""
        self._seconds.labels(routine).observe(seconds)
        self._failures.labels(routine).inc(int(failed))


def registry_of(collector: LedgerCollector) -> CollectorRegistry:
    """A registry with the collector and what is known of the process."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def limits_of(settings: Settings) -> dict[str, float]:
    """The settings that graphs are read against, so that a line is where this house has it."""
    monitor, rollout = settings.monitor, settings.rollout
    return {
        "tolerated_loss": monitor.tolerated_loss,
        "window_size": monitor.window_size,
        "label_log_threshold": -math.log(alarm_budget(monitor).label_alpha),
        "calibration_error": settings.gates.max_calibration_error,
        "new_labels": settings.retrain.min_new_labels,
        "step_units": rollout.step_min_units,
        "shadow_units": rollout.shadow_min_units,
        "rollout_log_evidence": -math.log(rollout.alpha),
        "guardrail_log_evidence": -math.log(rollout.guardrail_alpha),
        "guardrail_margin": rollout.guardrail_margin,
    }


def read_metrics(connection: Connection, *, now: datetime) -> Iterator[Metric]:
    """Everything that the ledger tells of all models."""
    known = versions.find(connection)
    names = {version.id: version.name for version in known}
    champions = {state.production for state in versions.model_states(connection)}
    readings: list[Reading] = [
        ((model, names[version]), values)
        for model, version, values, _ in verdicts.load_gauges(connection)
        if version in champions
    ]
    yield from _readings(readings)
    models = sorted({version.model for version in known})
    yield from _alerts(connection, models)
    yield from version_metrics(known, now)
    yield from rollout_metrics(connection, known, models)
    yield from job_metrics(connection, models, now)
    yield _last_ticks(connection)
    yield from _log(shipments(connection).values(), now)
    yield _one("leeway_outbox_waiting", "Notifications not delivered yet.", alerts.count_undelivered(connection))


def _readings(readings: list[Reading]) -> Iterator[Metric]:
    """The newest readings of each champion."""
    for name, (key, text) in SIGNAL_GAUGES.items():
        yield _by_label(name, text, OF_A_SIGNAL, readings, partial(_by_signal, key=key))
    for name, (key, text) in BIN_GAUGES.items():
        yield _by_label(name, text, OF_A_BIN, readings, partial(_by_bin, key=key))
    for name, (path, text) in VERSION_GAUGES.items():
        yield _by_label(name, text, OF_A_VERSION, readings, partial(_single, path=path))
    for name, (label, key, text) in NESTED_GAUGES.items():
        yield _by_label(name, text, (*OF_A_VERSION, label), readings, partial(_nested, key=key))
    seen = CounterMetricFamily(
        "leeway_monitored_predictions", "Predictions of the champion judged.", labels=OF_A_VERSION
    )
    for labels, values in readings:
        seen.add_metric(labels, values["seen"])
    yield seen


def _by_label(
    name: str,
    text: str,
    labels: tuple[str, ...],
    readings: list[Reading],
    read: Callable[[Mapping[str, Any]], Mapping[str, float | None]],
) -> Metric:
    """A gauge of each champion for each entry that `read` finds, under its key where there is a label for it."""
    metric = GaugeMetricFamily(name, text, labels=labels)
    for of_version, values in readings:
        for key, value in read(values).items():
            add(metric, (*of_version, key)[: len(labels)], value)
    return metric


def _by_signal(values: Mapping[str, Any], key: str) -> dict[str, float | None]:
    return {signal: finding[key] for signal, finding in values["signals"].items()}


def _by_bin(values: Mapping[str, Any], key: str) -> dict[str, float | None]:
    return {upper: found[key] for upper, found in values["reliability"].items()}


def _single(values: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, float | None]:
    found: Any = values
    for key in path:
        found = found[key]
    return {"": found}


def _nested(values: Mapping[str, Any], key: str) -> Mapping[str, float | None]:
    return values[key] or {}


def _alerts(connection: Connection, models: Iterable[str]) -> Iterator[Metric]:
    active = GaugeMetricFamily(
        "leeway_alert_active", "1 while an episode is open.", labels=("model", "name", "severity")
    )
    for of_episode in alerts.open_kinds(connection):
        active.add_metric(of_episode, 1)
    total = CounterMetricFamily("leeway_alarms", "Alert episodes so far.", labels=("model", "name"))
    none_yet = {(model, name): 0 for model in models for name in EPISODES}  # what begins with 1 has not increased
    for (model, name), count in (none_yet | alerts.count_episodes(connection)).items():
        total.add_metric((model, name), count)
    yield from (active, total)


def _last_ticks(connection: Connection) -> Metric:
    metric = GaugeMetricFamily(
        "leeway_monitor_last_tick_timestamp_seconds",
        "When the model was last watched, without an error.",
        labels=("model",),
    )
    for trigger, moment in ticks.last_finished(connection).items():
        name, _, model = trigger.partition(":")
        if name == "watch":
            metric.add_metric((model,), moment.timestamp())
    return metric


def _log(places: Collection[Shipped], now: datetime) -> Iterator[Metric]:
    """Of each host; of several places on one host the worst lag, and the rows together."""
    lags = gauge("leeway_prediction_log_lag_seconds", "Since all of a host's spool was in the table.", "host")
    rows = CounterMetricFamily(
        "leeway_prediction_log_rows", "Rows that a host has shipped to the prediction log.", labels=("host",)
    )
    for host in sorted({place.host for place in places}):
        here = [place for place in places if place.host == host]
        lag = (now - min(place.at for place in here)).total_seconds()
        lags.add_metric((host,), max(lag, 0.0))
        rows.add_metric((host,), sum(place.rows for place in here))
    yield from (lags, rows)


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
