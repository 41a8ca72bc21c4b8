"""Live metrics for Prometheus. Label sets are looked up once and kept; predictions are counted once per batch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitoring.core.spool import SpoolWriter, spool_bytes
from monitoring.core.types import LabelSource
from service.engine.work import FinishedBatch, Work
from service.routing import RoutingTable
from service.version import program_version

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
MODEL_VERSION_VARIANT = ("model", "version", "variant")


class Metrics:
    """Everything the serving process counts, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "leeway_http_requests",
            "HTTP requests by route and outcome.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "leeway_request_duration_seconds",
            "From request line to last byte.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "leeway_stage_duration_seconds",
            "Time a batch spends: its oldest text in the queue, in the tokenizer, in the model.",
            ("stage",),
            buckets=STAGE_SECONDS,
            registry=registry,
        )
        self._batch_size = Histogram("leeway_batch_size", "Texts in one model call.", buckets=SIZES, registry=registry)
        self._predictions = Counter("leeway_predictions", "Texts answered.", MODEL_VERSION_VARIANT, registry=registry)
        self._errors = Counter(
            "leeway_prediction_errors",
            "Texts that got no answer.",
            (*MODEL_VERSION_VARIANT, "reason"),
            registry=registry,
        )
        self._confidence = Histogram(
            "leeway_confidence",
            "Calibrated top-1 probability.",
            ("model", "version"),
            buckets=CONFIDENCES,
            registry=registry,
        )
        self._feedback = Counter("leeway_feedback", "New feedback kept.", ("source",), registry=registry)
        self._shadow_pairs = Counter(
            "leeway_shadow_pairs",
            "Texts that champion and shadow answered.",
            ("model", "version", "agree"),
            registry=registry,
        )
        self._shadow_dropped = Counter(
            "leeway_shadow_dropped",
            "Shadow copies dropped because the machine was busy.",
            ("model",),
            registry=registry,
        )
        self._child_of_requests = lru_cache(maxsize=1024)(self._requests.labels)
        self._child_of_request_seconds = lru_cache(maxsize=256)(self._request_seconds.labels)
        self._child_of_predictions = lru_cache(maxsize=1024)(self._predictions.labels)
        self._child_of_confidence = lru_cache(maxsize=1024)(self._confidence.labels)
        self._stages = {stage: self._stage_seconds.labels(stage) for stage in ("queue", "tokenize", "inference")}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One HTTP request has ended."""
        self._child_of_requests(route, method, str(status)).inc()
        self._child_of_request_seconds(route).observe(seconds)

    def tokenized(self, seconds: float) -> None:
        """One call of the tokenizer has ended."""
        self._stages["tokenize"].observe(seconds)

    def batch(self, batch: FinishedBatch) -> None:
        """One model call has ended."""
        self._stages["queue"].observe(batch.began - batch.works[0].waiting_since)
        self._stages["inference"].observe(batch.ended - batch.began)
        self._batch_size.observe(len(batch.works))
        if batch.predictions is None:
            self.failed(batch.works, "inference")
            return
        work = batch.works[0]
        confidence = self._child_of_confidence(work.call.model, work.target.name)
        for row in batch.rows:
            confidence.observe(batch.predictions.confidence[row])
        for variant in {work.variant for work in batch.works}:
            count = sum(work.variant is variant for work in batch.works)
            self._child_of_predictions(work.call.model, work.target.name, variant).inc(count)

    def failed(self, works: Sequence[Work], reason: str) -> None:
        """Texts will get no answer; `reason`: inference, deadline or overload."""
        for work in works:
            self._errors.labels(work.call.model, work.target.name, work.variant, reason).inc()

    def feedback(self, source: LabelSource) -> None:
        """One new piece of feedback is kept."""
        self._feedback.labels(source).inc()

    def shadow_answered(self, batch: FinishedBatch, agreements: Iterable[bool]) -> None:
        """A shadow batch is answered."""
        for agree in agreements:
            target = batch.works[0].target
            self._shadow_pairs.labels(target.version.model, target.name, str(agree).lower()).inc()

    def shadow_dropped(self, model: str, count: int) -> None:
        """Shadow copies found no room."""
        self._shadow_dropped.labels(model).inc(count)

    def exposition(self) -> bytes:
        """The registry as Prometheus scrapes it."""
        return generate_latest(self.registry)


class StateCollector(Collector):
    """Gauges that are read off the running parts at the moment of a scrape, so that none can be stale."""

    def __init__(
        self,
        *,
        table: Callable[[], RoutingTable],
        loaded: Callable[[], int],
        depths: Callable[[], Mapping[str, int]],
        spool: SpoolWriter,
        spool_dir: Path,
    ) -> None:
        self._table = table
        self._loaded = loaded
        self._depths = depths
        self._spool = spool
        self._spool_dir = spool_dir

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        table = self._table()
        shares = GaugeMetricFamily(
            "leeway_traffic_share", "Share of callers' answers that a version gives.", labels=MODEL_VERSION_VARIANT
        )
        for model, route in table.routes.items():
            for target, variant, share in route.shares():
                shares.add_metric([model, target.name, variant], share)
        yield shares
        depth = GaugeMetricFamily("leeway_queue_depth", "Texts that wait for the model.", labels=["model"])
        depths = self._depths()
        for model in {*table.routes, *depths}:
            depth.add_metric([model], depths.get(model, 0))
        yield depth
        yield GaugeMetricFamily("leeway_loaded_versions", "Versions in memory.", self._loaded())
        yield CounterMetricFamily("leeway_spool_rows", "Rows written to the spool.", self._spool.written_rows)
        yield CounterMetricFamily(
            "leeway_spool_dropped_rows", "Rows that the spool could not take.", self._spool.dropped_rows
        )
        yield GaugeMetricFamily("leeway_spool_bytes", "Bytes that wait to be shipped.", spool_bytes(self._spool_dir))
        disk = shutil.disk_usage(self._spool_dir)
        yield GaugeMetricFamily("leeway_disk_free_bytes", "Free on the disk of the home folder.", disk.free)
        yield GaugeMetricFamily("leeway_disk_size_bytes", "Size of the disk of the home folder.", disk.free + disk.used)
        build = GaugeMetricFamily("leeway_build_info", "The installed version of Leeway.", labels=["version"])
        build.add_metric([program_version()], 1)
        yield build
