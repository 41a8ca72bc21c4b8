"""What a service and its monitor export with two models of two versions each: documented, bounded, fit for sums."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.routing import iter_route_contexts
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from monitoring.core.bundle import Bundle
from monitoring.core.ledger import alerts, jobs, rollouts, ticks
from monitoring.core.types import JobState, RetrainCause, Role, Rollout, Severity, utc_now
from monitoring.exporter import LedgerCollector, RoutineMetrics, registry_of
from monitoring.process import Routines
from tests.bundles import LABELS, make_bundle, toy_texts
from tests.evidence import evidence_of
from tests.integration.service.conftest import Running, Start
from tests.metrics_page import read_page

MODELS = ("support", "triage")
MOST_SERIES = 1000
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
ENDINGS = {"counter": "_total", "info": "_info"}


@dataclass(frozen=True)
class Exported:
    """What one process exports, under the names that queries use: `_total` and `_info` are part of them."""

    families: Mapping[str, Metric]

    @classmethod
    def parse(cls, text: str) -> Exported:
        """By OpenMetrics' own parser, which is strict about names, units, types and order."""
        found = text_string_to_metric_families(text)
        return cls({family.name + ENDINGS.get(family.type, ""): family for family in found})

    def labels(self, name: str) -> frozenset[str]:
        """Those of its samples; a histogram's `le` is none of ours."""
        return frozenset(label for sample in self.families[name].samples for label in sample.labels) - {"le"}

    @property
    def own(self) -> dict[str, Metric]:
        """Without what is known of any process, under names that are not ours."""
        return {name: family for name, family in self.families.items() if not name.startswith("process_")}

    @property
    def series(self) -> int:
        """How many a scrape brings."""
        return sum(len(family.samples) for family in self.families.values())


@dataclass(frozen=True)
class Scraped:
    """One scrape of the service and one of its monitor."""

    serve: Exported
    monitor: Exported


@pytest.fixture
def scraped(start: Start, champion_bundle: Bundle, tmp_path: Path) -> Scraped:
    """Both models have a champion and a candidate in a rollout that went from shadow to traffic, and everything else
    that can be counted has happened once; every route has been asked for, too."""
    running = start(monitor={"window_size": 50})
    running.http.headers["authorization"] = f"Bearer {running.key(*Role)}"
    routines = {routine.name: routine for routine in Routines(running.settings, running.context.ledger, utc_now).all()}
    candidates = [_install(running, model, champion_bundle, tmp_path) for model in MODELS]
    under_way = [running.start_rollout(candidate) for candidate in candidates]
    running.context.serving.reconcile()
    _talk(running)
    _advance(running, under_way, share=0.5)
    _talk(running)
    _break(running, candidates[0].bundle_hash)
    routines["ship"].do("")
    for model in MODELS:
        routines["watch"].do(model)
    running.service.controller.reconcile()
    _happen(running)
    _knock(running)
    return Scraped(_scrape(running.http), _scrape_monitor(running))


def test_what_is_exported(scraped: Scraped, subtests: pytest.Subtests) -> None:
    """One scrape, since it takes a whole story to make it."""
    for check in (
        says_what_the_page_says,
        is_bounded,
        speaks_of_the_ledger_through_the_monitor_alone,
        has_names_that_say_what_is_counted,
        holds_no_ids_texts_or_people,
        shows_what_happened,
    ):
        with subtests.test(check.__name__):
            check(scraped)


def says_what_the_page_says(scraped: Scraped) -> None:
    exported = {
        (name, process, family.type, exposition.labels(name))
        for process, exposition in (("serve", scraped.serve), ("monitor", scraped.monitor))
        for name, family in exposition.own.items()
    }
    assert exported == {(row.name, row.process, row.type, row.labels) for row in read_page().values()}


def is_bounded(scraped: Scraped) -> None:
    serve, monitor = scraped.serve.series, scraped.monitor.series
    assert 200 < serve <= MOST_SERIES
    assert 200 < monitor <= MOST_SERIES


def speaks_of_the_ledger_through_the_monitor_alone(scraped: Scraped) -> None:
    """Or a sum over replicas would count its models, jobs and rollouts once for each of them."""
    assert not scraped.serve.own.keys() & scraped.monitor.own.keys()


def has_names_that_say_what_is_counted(scraped: Scraped) -> None:
    for name, family in {**scraped.serve.own, **scraped.monitor.own}.items():
        assert re.fullmatch(r"leeway(_[a-z0-9]+)+", name)
        assert family.documentation.endswith("."), name
        assert (family.type == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|percent)(_|$)", name), "base units only"


def holds_no_ids_texts_or_people(scraped: Scraped) -> None:
    values = {
        value
        for exposition in (scraped.serve, scraped.monitor)
        for family in exposition.own.values()
        for sample in family.samples
        for value in sample.labels.values()
    }
    assert max(map(len, values)) < 60
    assert not [value for value in values if re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", value)]
    assert not values & {"tester", "ann"}


def shows_what_happened(scraped: Scraped) -> None:
    def value(exposition: Exported, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for sample in exposition.families[name].samples
            if labels.items() <= sample.labels.items() and not sample.name.endswith(("_bucket", "_sum"))
        )

    serve, monitor = scraped.serve, scraped.monitor
    assert value(serve, "leeway_predictions_total", version="support@1") > 50
    assert value(serve, "leeway_tokens_total", version="support@1") > 200
    assert value(serve, "leeway_prediction_duration_seconds", variant="shadow") > 50
    assert value(serve, "leeway_prediction_errors_total", version="support@2", reason="inference") == 1
    assert value(monitor, "leeway_rollout_info", model="triage", candidate="triage@2", champion="triage@1") == 1
    assert value(monitor, "leeway_rollout_share", model="support") == 0.5
    assert value(monitor, "leeway_gate_passed", version="support@2", gate="parity") == 1
    assert value(monitor, "leeway_labelled_predictions", version="triage@1") > 50
    assert value(monitor, "leeway_rollouts_total") == 0


def test_the_page_explains_each_name_once() -> None:
    rows = list(read_page().values())
    assert len(rows) > 50
    assert all(len(row.meaning) > 10 and row.over_replicas in ("sum", "max", "avg", "each") for row in rows)
    mapped = [row.opentelemetry for row in rows]
    assert all(re.match(r"`(leeway|http)\.[a-z_.]+`", name) for name in mapped)


def _install(running: Running, model: str, champion: Bundle, folder: Path) -> Any:
    if model != champion.config.model:
        champion = make_bundle(folder / model, model=model)
    running.register(champion, evidence=evidence_of())
    mistaken = make_bundle(folder / f"{model}-2", model=model, mistakes={"billing": "delivery"}, seed=8)
    return running.register(mistaken, evidence=evidence_of())


def _talk(running: Running) -> None:
    """Both models are asked, and most answers get a label."""
    rng = np.random.default_rng(3)
    for model in MODELS:
        texts, labels = toy_texts(LABELS, 80, rng)
        for at in range(0, 80, 4):
            answers = running.predict(*texts[at : at + 4], model=model, key=f"customer-{at}").json()["predictions"]
            said = [
                {"prediction_id": answer["id"], "label": label, "source": "ground_truth"}
                for answer, label in zip(answers, labels[at : at + 4], strict=True)
            ]
            assert running.http.post("/v1/feedback", json={"items": said}).is_success


def _advance(running: Running, under_way: list[Rollout], *, share: float) -> None:
    while running.metric("leeway_shadow_pairs_total", model="triage", version="triage@2", agree="true") < 40:
        time.sleep(0.01)
    with running.context.ledger.begin() as connection:
        for rollout in under_way:
            rollouts.advance(
                connection, rollouts.get(connection, rollout.id), step=0, share=share, reason="test", now=utc_now()
            )
    running.context.serving.reconcile()


def _break(running: Running, candidate: str) -> None:
    """One text that a version fails on."""
    running.gate.broken.add(candidate)
    while (
        running.metric(
            "leeway_prediction_errors_total",
            model="support",
            version="support@2",
            variant="candidate",
            reason="inference",
        )
        == 0
    ):
        running.predict("where is my parcel?")
    running.gate.broken.clear()
    running.context.metrics.shadow_dropped("support", 1)


def _happen(running: Running) -> None:
    """A tick; an alert that is open; a job that ended, and one that waits."""
    now = utc_now()
    with running.context.ledger.begin() as connection:
        ticks.insert(connection, "watch:support", now)
        tick = ticks.claim(connection, owner="monitor", lasts=timedelta(minutes=1), now=now)
        assert tick is not None
        ticks.finish(connection, tick, now=now)
        for cause in (RetrainCause.MANUAL, RetrainCause.DRIFT):
            jobs.request(connection, model="support", cause=cause, reason="", request={}, actor="ann", now=now)
        job = jobs.claim(connection, owner="worker", lasts=timedelta(minutes=1), now=now)
        assert job is not None
        jobs.finish(connection, job, JobState.SUCCEEDED, reason="", result={}, now=now)
        for name in ("drift", "quality"):
            alerts.fire(
                connection,
                model="support",
                version="",
                name=name,
                severity=Severity.CRITICAL,
                summary="moved",
                detail={},
                now=now,
            )


def _knock(running: Running) -> None:
    """At every route with every method it has: the most that `route`, `method` and `status` can multiply to."""
    routes = [route for route in iter_route_contexts(running.service.api.routes) if route.path and route.methods]
    assert {"/v1/models/{model}/predict", "/v1/feedback", "/console/drift", "/"} <= {route.path for route in routes}
    for route in routes:
        for method in route.methods:
            running.http.request(method, re.sub(r"{[^}]+}", "x", route.path))


def _scrape(http: httpx.Client) -> Exported:
    answer = http.get("/metrics", headers={"accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    return Exported.parse(answer.text)


def _scrape_monitor(running: Running) -> Exported:
    registry: CollectorRegistry = registry_of(
        LedgerCollector(running.context.ledger, utc_now, settings=running.settings, missed_firings=lambda: 0)
    )
    ran = RoutineMetrics(registry)
    for routine in ("ship", "watch", "outbox", "maintain", "schedule"):
        ran.ran(routine, 0.1, failed=False)
    encode, _ = choose_encoder(OPENMETRICS)
    return Exported.parse(encode(registry).decode())
