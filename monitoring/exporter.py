"""What the ledger knows, as Prometheus metrics: read at each scrape, so that any monitor may be scraped."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from monitoring.core.ledger import alerts, jobs, rollouts, ticks, verdicts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import Clock, ModelVersion, Rollout, RolloutPhase, Stage
from monitoring.shipping import Shipped, last_shipment

log = logging.getLogger(__name__)

OF_A_VERSION = ("model", "version")
OF_A_SIGNAL = ("model", "version", "signal")
ENDED = frozenset({Stage.ARCHIVED, Stage.REJECTED, Stage.ROLLED_BACK})
SIGNAL_GAUGES = {
    "leeway_drift_statistic": ("statistic", "Test statistic of the last window, by signal."),
    "leeway_drift_threshold": ("threshold", "Tolerated shift of a signal: its leeway."),
    "leeway_drift_effect": ("effect", "How far a signal moved in the last window: a distance in [0, 1]."),
}
VERSION_GAUGES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "leeway_drift_severity": (("severity",), "The last window: 0 stable, 1 notice, 2 drift, -1 inconclusive."),
    "leeway_detector_log_statistic": (("detector", "log_statistic"), "The per-prediction detector's evidence, as log."),
    "leeway_detector_log_threshold": (
        ("detector", "log_threshold"),
        "Where the per-prediction detector alarms, as log.",
    ),
    "leeway_accuracy_baseline": (("baseline_accuracy",), "Accuracy on the hold-out at the version's birth."),
    "leeway_accuracy_floor": (("accuracy_floor",), "Accuracy at the version's birth, less the tolerated loss."),
    "leeway_labelled_predictions": (("labelled",), "Predictions of the version with a recent label."),
}
NESTED_GAUGES = {
    "leeway_accuracy_estimated": ("bound", "estimated", "Accuracy of the last window, estimated without its labels."),
    "leeway_accuracy_realised": ("bound", "realised", "Accuracy by recent outcome-blind labels."),
    "leeway_calibration_error": ("metric", "calibration", "Calibration on recent outcome-blind labels."),
}

Reading = tuple[tuple[str, str], Mapping[str, Any]]
"""Model and version name, with the gauges that the monitor kept of it."""


class LedgerCollector(Collector):
    """Makes metrics of one consistent reading of the ledger; of a ledger that cannot be read, `leeway_monitor_up 0`."""

    def __init__(self, ledger: Ledger, clock: Clock, *, missed_firings: Callable[[], int]) -> None:
        self._ledger = ledger
        self._now = clock
        self._missed = missed_firings

    def describe(self) -> Iterable[Metric]:
        """Nothing: names depend on what the ledger holds."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics, or that there are none."""
        up = GaugeMetricFamily("leeway_monitor_up", "1 while the monitor can read the ledger.")
        missed = CounterMetricFamily("leeway_monitor_missed_firings", "Firings that the monitor's clock missed.")
        missed.add_metric([], self._missed())
        try:
            with self._ledger.read() as connection:
                metrics = list(read_metrics(connection, now=self._now()))
        except SQLAlchemyError:
            log.exception("the ledger cannot be read; the scrape says so")
            up.add_metric([], 0)
            yield from (up, missed)
            return
        up.add_metric([], 1)
        yield from (up, missed, *metrics)


def registry_of(collector: LedgerCollector) -> CollectorRegistry:
    """A registry that holds the collector alone."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


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
    yield from _alerts(connection)
    yield from _lifecycle(known, now)
    yield from _rollouts(rollouts.open_rollouts(connection))
    yield _ended_rollouts(connection, {version.model for version in known})
    yield _jobs(connection)
    yield _last_ticks(connection)
    yield from _log(last_shipment(connection), now)
    yield _one("leeway_outbox_waiting", "Notifications not delivered yet.", alerts.count_undelivered(connection))


def _readings(readings: list[Reading]) -> Iterator[Metric]:
    """The newest readings of each champion."""
    for name, (key, text) in SIGNAL_GAUGES.items():
        yield _by_label(name, text, OF_A_SIGNAL, readings, partial(_by_signal, key=key))
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
            _add(metric, (*of_version, key)[: len(labels)], value)
    return metric


def _by_signal(values: Mapping[str, Any], key: str) -> dict[str, float | None]:
    return {signal: finding[key] for signal, finding in values["signals"].items()}


def _single(values: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, float | None]:
    found: Any = values
    for key in path:
        found = found[key]
    return {"": found}


def _nested(values: Mapping[str, Any], key: str) -> Mapping[str, float | None]:
    return values[key] or {}


def _alerts(connection: Connection) -> Iterator[Metric]:
    active = GaugeMetricFamily(
        "leeway_alert_active", "1 while an episode is open.", labels=("model", "name", "severity")
    )
    for alert in alerts.find(connection, open_only=True):
        active.add_metric((alert.model, alert.name, alert.severity), 1)
    total = CounterMetricFamily("leeway_alarms", "Alert episodes so far.", labels=("model", "name"))
    for (model, name), count in alerts.count_episodes(connection).items():
        total.add_metric((model, name), count)
    yield from (active, total)


def _lifecycle(known: list[ModelVersion], now: datetime) -> Iterator[Metric]:
    stage = GaugeMetricFamily("leeway_model_stage", "1 for each version's stage.", labels=(*OF_A_VERSION, "stage"))
    waiting = GaugeMetricFamily("leeway_candidates_waiting", "Versions that wait for approval.", labels=("model",))
    longest = GaugeMetricFamily(
        "leeway_approval_wait_seconds", "How long the oldest waiting version has waited.", labels=("model",)
    )
    for version in known:
        if version.stage not in ENDED:
            stage.add_metric((version.model, version.name, version.stage), 1)
    for model in sorted({version.model for version in known}):
        made = [v.created_at for v in known if v.model == model and v.stage is Stage.AWAITING_APPROVAL]
        waiting.add_metric((model,), len(made))
        longest.add_metric((model,), (now - min(made)).total_seconds() if made else 0.0)
    yield from (stage, waiting, longest)


def _rollouts(under_way: list[Rollout]) -> Iterator[Metric]:
    step = GaugeMetricFamily("leeway_rollout_step", "Step of the open rollout; -1 is shadow.", labels=("model",))
    share = GaugeMetricFamily("leeway_rollout_share", "The candidate's share of traffic.", labels=("model",))
    phase = GaugeMetricFamily("leeway_rollout_phase", "1 for the open rollout's phase.", labels=("model", "phase"))
    difference = GaugeMetricFamily(
        "leeway_rollout_difference", "Accuracy of candidate minus champion.", labels=("model", "bound")
    )
    for rollout in under_way:
        step.add_metric((rollout.model,), rollout.step)
        share.add_metric((rollout.model,), rollout.share)
        phase.add_metric((rollout.model, rollout.phase), 1)
        accuracy = rollout.analysis.get("accuracy") or {}
        for bound, key in (("value", "difference"), ("low", "low"), ("high", "high")):
            _add(difference, (rollout.model, bound), accuracy.get(key))
    yield from (step, share, phase, difference)


def _ended_rollouts(connection: Connection, models: Iterable[str]) -> Metric:
    """From 0 on: a counter that begins with 1 has not increased."""
    metric = CounterMetricFamily("leeway_rollouts", "Rollouts that have ended.", labels=("model", "phase"))
    ended = rollouts.count_ended(connection)
    for model in sorted(models):
        for phase in (RolloutPhase.SUCCESSFUL, RolloutPhase.FAILED, RolloutPhase.ERROR):
            metric.add_metric((model, phase), ended.get((model, phase), 0))
    return metric


def _jobs(connection: Connection) -> Metric:
    metric = GaugeMetricFamily("leeway_jobs", "Training jobs by state.", labels=("model", "state"))
    for (model, state), count in jobs.count(connection).items():
        metric.add_metric((model, state), count)
    return metric


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


def _log(shipped: Shipped, now: datetime) -> Iterator[Metric]:
    if shipped.at is not None:
        lag = (now - shipped.at).total_seconds()
        yield _one(
            "leeway_prediction_log_lag_seconds", "Since all spooled predictions were in the table.", max(lag, 0.0)
        )
    rows = CounterMetricFamily("leeway_prediction_log_rows", "Rows shipped to the prediction log.")
    rows.add_metric([], shipped.rows)
    yield rows


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _add(metric: GaugeMetricFamily, labels: tuple[str, ...], value: float | None) -> None:
    """Leave out what is not known: a gap in a graph is honest, a zero is not."""
    if value is not None and math.isfinite(value):
        metric.add_metric(labels, value)
