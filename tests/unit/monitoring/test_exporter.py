from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection

from monitoring.core.ledger import alerts, approvals, jobs, rollouts, ticks, verdicts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import Settings
from monitoring.core.types import ModelVersion, RetrainCause, Severity, Stage
from monitoring.exporter import LedgerCollector, registry_of
from tests.conftest import FrozenClock
from tests.world import World

GAUGES: dict[str, Any] = {
    "signals": {"confidence": {"statistic": 0.3, "threshold": 0.1, "effect": 0.25, "severity": 2}},
    "severity": 2,
    "window": {"end": 1767614000.0, "pending": 34},
    "detector": {"log_statistic": 4.0, "log_threshold": 15.0},
    "estimated": {"value": 0.8, "low": 0.7, "high": 0.9},
    "realised": None,
    "baseline_since": 1767600000.0,
    "baseline_accuracy": 0.93,
    "accuracy_floor": 0.9,
    "baseline_calibration": {"ece_debiased": 0.01},
    "calibration": {"ece_debiased": 0.02, "smece": float("nan")},
    "gap": 0.07,
    "reliability": {"0.9": {"promised": 0.85, "true": 0.7, "labels": 11}},
    "label_tests": {"loss": 1.5, "miscalibration": 0.0},
    "labelled": 12,
    "new_labels": 9,
    "seen": 1234,
    "ticked_at": "2026-01-05T12:00:00+00:00",
}
OF_THE_CHAMPION = {"model": "support", "version": "support@1"}


def scrape(ledger: Ledger, clock: FrozenClock) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(
        registry_of(LedgerCollector(ledger, clock, settings=Settings(), missed_firings=lambda: 3))
    ).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def ledger() -> Ledger:
    opened = Ledger.open("sqlite://")
    opened.upgrade()
    return opened


def test_the_champions_readings_become_metrics(ledger: Ledger, clock: FrozenClock) -> None:
    champion = _version(ledger, clock, approve=True)
    with ledger.begin() as connection:
        verdicts.save_gauges(connection, model="support", version=champion.id, values=GAUGES, now=clock.now)
    seen = scrape(ledger, clock)

    def value(name: str, **labels: str) -> float | None:
        return seen.get((name, tuple(sorted(labels.items()))))

    assert value("leeway_monitor_up") == 1
    assert value("leeway_monitor_missed_firings_total") == 3
    assert value("leeway_drift_effect", **OF_THE_CHAMPION, signal="confidence") == 0.25
    assert value("leeway_drift_severity", **OF_THE_CHAMPION) == 2
    assert value("leeway_accuracy_floor", **OF_THE_CHAMPION) == 0.9
    assert value("leeway_detector_log_threshold", **OF_THE_CHAMPION) == 15
    assert value("leeway_accuracy_estimated", **OF_THE_CHAMPION, bound="low") == 0.7
    assert value("leeway_calibration_error", **OF_THE_CHAMPION, metric="ece_debiased") == 0.02
    assert value("leeway_monitored_predictions_total", **OF_THE_CHAMPION) == 1234
    assert value("leeway_model_stage", **OF_THE_CHAMPION, stage="production") == 1
    names = {name for name, _ in seen}
    assert "leeway_accuracy_realised" not in names  # not known, so not shown
    assert value("leeway_calibration_error", **OF_THE_CHAMPION, metric="smece") is None


def test_each_host_has_its_own_lag_the_worst_of_its_folders(ledger: Ledger, clock: FrozenClock) -> None:
    with ledger.begin() as connection:
        for number, (host, rows, ago) in enumerate([("a", 50, 7), ("b", 20, 900), ("b", 10, 3)]):
            position = {"host": host, "rows": rows, "at": (clock.now - timedelta(seconds=ago)).isoformat()}
            verdicts.save_cursor(connection, f"ship:{number}", position)
    seen = scrape(ledger, clock)
    assert {labels: value for (name, labels), value in seen.items() if name == "leeway_prediction_log_lag_seconds"} == {
        (("host", "a"),): 7,
        (("host", "b"),): 900,
    }
    assert seen["leeway_prediction_log_rows_total", (("host", "b"),)] == 30


def test_every_open_alert_is_shown_however_many_there_are(ledger: Ledger, clock: FrozenClock) -> None:
    with ledger.begin() as connection:
        for number in range(120):
            _fire(connection, clock, f"model-{number}", Severity.WARNING)
    active = [value for (name, _), value in scrape(ledger, clock).items() if name == "leeway_alert_active"]
    assert active == [1] * 120


def test_what_waits_and_what_is_under_way(ledger: Ledger, clock: FrozenClock) -> None:
    _version(ledger, clock, approve=True)
    _version(ledger, clock, approve=False)
    with ledger.begin() as connection:
        jobs.request(
            connection, model="support", cause=RetrainCause.MANUAL, reason="", request={}, actor="ann", now=clock.now
        )
        _fire(connection, clock, "support", Severity.CRITICAL)
        ticks.insert(connection, "watch:support", clock.now)
        tick = ticks.claim(connection, owner="me", lasts=timedelta(seconds=9), now=clock.now)
        assert tick is not None
        ticks.finish(connection, tick, now=clock.now)
    clock.advance(timedelta(minutes=2))
    seen = scrape(ledger, clock)
    of_model = ("model", "support")
    assert seen["leeway_jobs", (("cause", "manual"), of_model, ("state", "queued"))] == 1
    assert seen["leeway_job_age_seconds", (of_model, ("state", "queued"))] == 120
    assert seen["leeway_job_age_seconds", (of_model, ("state", "running"))] == 0
    assert seen["leeway_alert_active", (of_model, ("name", "drift"), ("severity", "critical"))] == 1
    assert seen["leeway_alarms_total", (of_model, ("name", "drift"))] == 1
    assert seen["leeway_rollouts_total", (of_model, ("phase", "failed"))] == 0
    assert seen["leeway_candidates_waiting", (of_model,)] == 1
    assert seen["leeway_approval_wait_seconds", (of_model,)] == 120
    assert seen["leeway_outbox_waiting", ()] == 1
    last = seen["leeway_monitor_last_tick_timestamp_seconds", (of_model,)]
    assert last == (clock.now - timedelta(minutes=2)).timestamp()


def test_a_rollout_is_shown_with_its_evidence_and_the_gates_of_the_newest_version(
    tmp_path: Path, clock: FrozenClock
) -> None:
    world = World.create(tmp_path, clock)
    world.champion()
    rollout = world.rollout(world.approve(world.candidate()), share=0.25)
    analysis = {
        "accuracy": {"difference": 0.05, "low": -0.02, "high": 0.12, "log_e_better": 1.5, "log_e_harm": -0.4},
        "errors": {"difference": 0.0, "low": -0.1, "high": 0.1, "log_e_harm": 0.2},
        "latency": None,
        "log_e_sample_ratio": 0.3,
        "step_candidates": 12,
        "step_champions": 40,
    }
    with world.ledger.begin() as connection:
        rollouts.record_analysis(connection, rollout, analysis, "going on")
    clock.advance(timedelta(seconds=30))
    seen = scrape(world.ledger, clock)

    def value(name: str, **labels: str) -> float | None:
        return seen.get((name, tuple(sorted({"model": "support", **labels}.items()))))

    versus = {"candidate": "support@2", "champion": "support@1"}
    assert value("leeway_rollout_info", **versus, phase="running") == 1
    assert value("leeway_rollout_difference", bound="low") == -0.02
    assert value("leeway_rollout_guardrail", measure="errors", bound="high") == 0.1
    assert value("leeway_rollout_guardrail", measure="latency", bound="high") is None
    assert value("leeway_rollout_log_evidence", test="better") == 1.5
    assert value("leeway_rollout_log_evidence", test="latency") is None
    assert value("leeway_rollout_units", arm="champion") == 40
    assert value("leeway_gate_value", version="support@2", gate="calibration") == 0.021
    assert value("leeway_holdout_accuracy", version="support@2", of="champion") == 0.874
    assert (
        value(
            "leeway_version_info",
            version="support@1",
            cause="drift",
            bundle=world.version("support@1").bundle_hash[:12],
        )
        == 1
    )
    assert value("leeway_rollouts_total", phase="successful") == 0


def test_a_ledger_that_cannot_be_read_is_down_and_no_crash(clock: FrozenClock) -> None:
    seen = scrape(Ledger.open("sqlite://"), clock)  # without tables
    assert seen["leeway_monitor_up", ()] == 0


def _fire(connection: Connection, clock: FrozenClock, model: str, severity: Severity) -> None:
    alerts.fire(
        connection,
        model=model,
        version="",
        name="drift",
        severity=severity,
        summary="moved",
        detail={},
        now=clock.now,
    )


def _version(ledger: Ledger, clock: FrozenClock, *, approve: bool) -> ModelVersion:
    with ledger.begin() as connection:
        version = versions.add(
            connection,
            model="support",
            bundle_uri="",
            bundle_hash="0",
            labels=("a", "b"),
            lineage={},
            evidence={},
            actor="test",
            now=clock.now,
        )
        version = versions.move(
            connection, version, Stage.AWAITING_APPROVAL, actor="test", reason="passed", now=clock.now
        )
        if not approve:
            return version
        return approvals.approve(
            connection,
            version,
            person="ann",
            reason="good",
            bundle_hash=None,
            valid_for=timedelta(days=1),
            now=clock.now,
        )
