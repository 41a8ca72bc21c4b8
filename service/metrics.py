"""Live metrics for Prometheus. Label sets are looked up once and kept; predictions are counted once per batch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from monitoring.core.spool import SpoolWriter
from monitoring.core.types import LabelSource, Variant
from service.children import Kept
from service.engine.work import FinishedBatch, Work
from service.routing import RoutingTable
from service.version import program_version

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
ANSWER_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.5, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
MODEL_VERSION = ("model", "version")
MODEL_VERSION_VARIANT = (*MODEL_VERSION, "variant")
ENDED_FOR = timedelta(minutes=2)
"""How long a version's series outlive it: until a scraper that comes once a minute has their last counts."""
TIMED = ("/predict", "/infer", "/ModelInfer", "/feedback")
"""Routes by whose speed callers judge; all others share one histogram, since each costs as many series as buckets."""


class Metrics:
    """Everything the serving process counts, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "leeway_http_requests",
            "HTTP requests, and gRPC's with the status that fits, by route and outcome.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "leeway_request_duration_seconds",
            "From request line to last byte of what was not refused: callers' routes by name, others together.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "leeway_stage_duration_seconds",
            "Time a batch spends: its oldest text in the queue, in the tokenizer, in the model, in the record.",
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
            MODEL_VERSION,
            buckets=CONFIDENCES,
            registry=registry,
        )
        self._answer_seconds = Histogram(
            "leeway_prediction_duration_seconds",
            "From the request's arrival to the text's answer; of a shadow copy, the model call alone.",
            MODEL_VERSION_VARIANT,
            buckets=ANSWER_SECONDS,
            registry=registry,
        )
        self._tokens = Counter("leeway_tokens", "Tokens of answered texts.", MODEL_VERSION, registry=registry)
        self._padding = Counter(
            "leeway_padding_tokens", "Tokens computed only to fill a batch.", MODEL_VERSION, registry=registry
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
        self._of_request = lru_cache(maxsize=1024)(self._children_of_request)
        self._of_version = Kept(
            self._children_of_version,
            MODEL_VERSION,
            *(self._confidence, self._tokens, self._padding, self._shadow_pairs),
        )
        self._of_part = Kept(
            self._children_of_part,
            MODEL_VERSION_VARIANT,
            *(self._predictions, self._errors, self._answer_seconds),
        )
        self._ended: dict[tuple[str, str], datetime] = {}
        for source in LabelSource:  # a counter that begins with 1 has not increased
            self._feedback.labels(source)
        stages = ("queue", "tokenize", "inference", "record")
        self._stages = {stage: self._stage_seconds.labels(stage) for stage in stages}
        ProcessCollector(registry=registry)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One HTTP request has ended."""
        count, duration = self._of_request(route, method, status)
        count.inc()
        if duration is not None:
            duration.observe(seconds)

    def tokenized(self, seconds: float) -> None:
        """One call of the tokenizer has ended."""
        self._stages["tokenize"].observe(seconds)

    def batch(self, batch: FinishedBatch) -> None:
        """One model call has ended."""
        works, first = batch.works, batch.works[0]
        if first.variant is not Variant.SHADOW:  # a silent copy waits for quiet, and nobody waits for it
            self._stages["queue"].observe(batch.began - first.waiting_since)
        self._stages["inference"].observe(batch.ended - batch.began)
        self._batch_size.observe(len(works))
        if batch.predictions is None:
            self.failed(works, "inference")
            return
        confidence, tokens, padding = self._of_version.of(first.call.model, first.target.name)
        longest = total = 0
        counts: dict[Variant, int] = {}
        stated = batch.predictions.confidence.tolist()
        for work, row in zip(works, batch.rows, strict=True):
            confidence.observe(stated[row])
            variant, length = work.variant, len(work.encoded or ())
            counts[variant] = counts.get(variant, 0) + 1
            total += length
            longest = max(longest, length)
            began = batch.began if variant is Variant.SHADOW else work.call.started
            self._of_part.of(first.call.model, first.target.name, variant)[1].observe(batch.ended - began)
        for variant, count in counts.items():
            self._of_part.of(first.call.model, first.target.name, variant)[0].inc(count)
        tokens.inc(total)
        if unused := longest * len(works) - total:
            padding.inc(unused)

    def recorded(self, seconds: float) -> None:
        """One batch is written to the spool."""
        self._stages["record"].observe(seconds)

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

    def forget_ended(self, served: Collection[str], *, now: datetime) -> None:
        """Leave out versions that neither serve nor stand by any more, once their last counts can have been scraped.

        To be called at each scrape, with the names of the versions in memory. What comes back begins anew at 0.
        """
        counted = {
            (sample.labels["model"], sample.labels["version"])
            for metric in (*self._errors.collect(), *self._shadow_pairs.collect())  # which have every version
            for sample in metric.samples
        }
        ended = {version: self._ended.get(version, now) for version in counted if version[1] not in served}
        self._ended = {version: since for version, since in ended.items() if now < since + ENDED_FOR}
        for version in ended.keys() - self._ended.keys():
            self._of_part.drop(*version)
            self._of_version.drop(*version)

    def _children_of_request(self, route: str, method: str, status: int) -> tuple[Counter, Histogram | None]:
        """The counter, and the histogram if the request was not refused."""
        count = self._requests.labels(route, method, str(status))
        if is_refusal(status):
            return count, None
        return count, self._request_seconds.labels(route if route.endswith(TIMED) else "other")

    def _children_of_version(self, model: str, version: str) -> tuple[Histogram, Counter, Counter]:
        """Confidence, tokens, padding."""
        names = (model, version)
        return self._confidence.labels(*names), self._tokens.labels(*names), self._padding.labels(*names)

    def _children_of_part(self, model: str, version: str, variant: Variant) -> tuple[Counter, Histogram]:
        """Predictions and their time; with them begin the counters of what may go wrong, at 0."""
        for reason in ("inference", "deadline", "overload"):
            self._errors.labels(model, version, variant, reason)
        if variant is Variant.SHADOW:
            self._shadow_dropped.labels(model)
        part = (model, version, variant)
        return self._predictions.labels(*part), self._answer_seconds.labels(*part)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The registry as it is scraped, and its content type: OpenMetrics for who accepts it, else Prometheus' own."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


def is_refusal(status: int) -> bool:
    """Whether a request was turned away before anything was done for it: such a quick no is no quick answer.

    A caller who left (499) was being served.
    """
    return 400 <= status < 499 or status == 503


class StateCollector(Collector):
    """Gauges that are read off the running parts at the moment of a scrape, so that none can be stale."""

    def __init__(
        self,
        *,
        table: Callable[[], RoutingTable],
        loaded: Callable[[], int],
        depths: Callable[[], Mapping[str, int]],
        capacity: int,
        spool: SpoolWriter,
    ) -> None:
        self._table = table
        self._loaded = loaded
        self._depths = depths
        self._capacity = capacity
        self._spool = spool

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
        yield GaugeMetricFamily("leeway_queue_capacity", "Texts that may wait for all models.", self._capacity)
        yield GaugeMetricFamily("leeway_loaded_versions", "Versions in memory.", self._loaded())
        yield CounterMetricFamily("leeway_spool_rows", "Rows written to the spool.", self._spool.written_rows)
        yield CounterMetricFamily(
            "leeway_spool_dropped_rows", "Rows that the spool could not take.", self._spool.dropped_rows
        )
        yield GaugeMetricFamily(
            "leeway_spool_bytes", "Bytes of this process that wait to be shipped.", self._spool.waiting_bytes()
        )
        yield GaugeMetricFamily(
            "leeway_spool_limit_bytes", "Bytes that may wait before rows are dropped.", self._spool.limit_bytes
        )
        disk = shutil.disk_usage(self._spool.root)
        yield GaugeMetricFamily("leeway_disk_free_bytes", "Free on the disk of the home folder.", disk.free)
        yield GaugeMetricFamily("leeway_disk_size_bytes", "Size of the disk of the home folder.", disk.free + disk.used)
        yield InfoMetricFamily("leeway_build", "The installed version of Leeway.", {"version": program_version()})
