"""What should serve, does: loading, rollouts, swaps, broken bundles, a ledger that is away, and a clean end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import update

from monitoring.core.bundle import Bundle
from monitoring.core.ids import unit_hash
from monitoring.core.ledger import replicas, rollouts, versions
from monitoring.core.tables import models
from monitoring.core.types import ModelVersion, Role, utc_now
from service import metrics
from service.assignment import meets_candidate
from tests.bundles import make_bundle
from tests.integration.service.conftest import Running, Start, with_champion

WATCH = timedelta(hours=1)


def test_a_model_serves_from_its_approval_on(start: Start, champion_bundle: Bundle) -> None:
    running = start()
    with_champion(running, champion_bundle)
    assert running.predict("my parcel").json()["predictions"][0]["version"] == "support@1"
    with running.context.ledger.read() as connection:
        (version,) = versions.find(connection)
        assert replicas.all_have_loaded(connection, version.id, now=utc_now())


def test_a_model_without_production_version_is_not_ready_and_says_why(start: Start, champion_bundle: Bundle) -> None:
    running = start()
    running.register(champion_bundle, approved=False)
    running.context.serving.reconcile()
    running.http.headers["authorization"] = f"Bearer {running.key(*Role)}"
    response = running.predict("my parcel")
    assert response.status_code == 503
    assert "no version in production" in response.json()["error"]["message"]
    assert int(response.headers["retry-after"]) >= 1
    assert running.http.get("/v2/health/ready").status_code == 200  # nothing that should serve is missing
    assert running.http.get("/v2/models/support/ready").status_code == 503


def test_an_approved_candidate_is_warmed_before_its_rollout(support: Running, candidate_bundle: Bundle) -> None:
    candidate = _approve(support, candidate_bundle)
    assert candidate.id in support.context.serving.loaded
    assert support.predict("refund the invoice").json()["predictions"][0]["version"] == "support@1"


def test_in_shadow_the_champion_answers_and_the_candidate_answers_the_same_silently(
    support: Running, candidate_bundle: Bundle
) -> None:
    rollout = support.start_rollout(_approve(support, candidate_bundle))
    support.context.serving.reconcile()
    answers = support.predict("refund the invoice", "my parcel is late", key="customer-7").json()["predictions"]
    assert [(a["label"], a["variant"]) for a in answers] == [("billing", "production"), ("delivery", "production")]
    support.context.inference.pool.stop()
    rows = support.rows()
    for row in rows:
        assert (row["rollout"], row["step"], row["share"]) == (rollout.id, -1, 0.0)
        assert row["unit"] == unit_hash("customer-7")
    shadow = {row["prediction_id"]: row for row in rows if row["variant"] == "shadow"}
    assert {row["version"] for row in shadow.values()} == {rollout.candidate}
    assert [shadow[a["id"]]["predicted"] for a in answers] == ["delivery", "delivery"]
    pairs = {"model": "support", "version": "support@2"}
    assert support.metric("leeway_shadow_pairs_total", agree="true", **pairs) == 1
    assert support.metric("leeway_shadow_pairs_total", agree="false", **pairs) == 1


def test_shadow_copies_wait_for_production_and_are_dropped_and_counted_when_too_many(
    start: Start, champion_bundle: Bundle, candidate_bundle: Bundle
) -> None:
    running = with_champion(start(server={"threads": 1, "shadow_queue_size": 2}), champion_bundle)
    running.start_rollout(_approve(running, candidate_bundle))
    running.context.serving.reconcile()
    assert running.predict("one", "two two two two", "three", "four").status_code == 200
    running.context.inference.pool.stop()
    answered = sum(row["variant"] == "shadow" for row in running.rows())
    dropped = running.metric("leeway_shadow_dropped_total", model="support")
    assert answered + dropped == 4
    assert dropped >= 1


def test_in_an_ab_test_each_unit_keeps_its_version_and_units_are_split_as_stated(
    support: Running, candidate_bundle: Bundle
) -> None:
    rollout = support.start_rollout(_approve(support, candidate_bundle), share=0.3)
    support.context.serving.reconcile()
    for _ in range(2):
        for number in range(30):
            expected = meets_candidate(unit_hash(f"customer-{number}"), rollout.salt, 0.3)
            answer = support.predict("my parcel", key=f"customer-{number}").json()["predictions"][0]
            assert (answer["variant"] == "candidate") is expected
            assert answer["version"] == ("support@2" if expected else "support@1")
    rows = support.rows()
    assert {row["variant"] for row in rows} == {"production", "candidate"}
    assert {(row["rollout"], row["step"], row["share"]) for row in rows} == {(rollout.id, 0, 0.3)}
    assert support.metric("leeway_traffic_share", model="support", version="support@2", variant="candidate") == 0.3


def test_a_rolled_back_candidate_leaves_the_metrics_and_its_champion_counts_on(
    support: Running, candidate_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = support.start_rollout(_approve(support, candidate_bundle))
    support.context.serving.reconcile()
    support.predict("my parcel is late")
    while 'variant="shadow",version="support@2"' not in _series(support, "leeway_predictions_total"):
        time.sleep(0.01)
    with support.context.ledger.begin() as connection:
        rollouts.abort(connection, rollout, actor="test", reason="test", now=utc_now())
    support.context.serving.reconcile()
    assert "support@2" in _series(support, "")
    monkeypatch.setattr(metrics, "ENDED_FOR", timedelta(0))
    assert "support@2" not in _series(support, "")
    assert support.predict("my parcel is late").is_success
    support.context.inference.pool.stop()  # counting comes after the answer
    assert 'leeway_predictions_total{model="support",variant="production",version="support@1"} 2.0' in _series(
        support, ""
    )


def _series(running: Running, name: str) -> str:
    """What a scrape brings, of the metrics whose names begin so."""
    return "\n".join(line for line in running.http.get("/metrics").text.splitlines() if line.startswith(name))


def test_a_failing_candidate_is_recorded_and_the_champion_answers_instead(
    support: Running, candidate_bundle: Bundle
) -> None:
    rollout = support.start_rollout(_approve(support, candidate_bundle), share=0.99)
    support.context.serving.reconcile()
    support.gate.broken.add(candidate_bundle.hash)
    key = next(key for key in map(str, range(1000)) if meets_candidate(unit_hash(key), rollout.salt, 0.99))
    response = support.predict("my parcel is late", key=key)
    assert response.status_code == 200
    answer = response.json()["predictions"][0]
    assert (answer["version"], answer["variant"], answer["label"]) == ("support@1", "production", "delivery")
    failed, answered = support.rows()
    assert failed["prediction_id"] == answered["prediction_id"] == answer["id"]
    assert (failed["variant"], failed["rollout"]) == ("candidate", rollout.id)
    assert failed["error"].startswith("RuntimeError")
    assert (answered["variant"], answered["rollout"], answered["error"]) == ("production", None, None)


def test_a_promotion_swaps_without_a_lost_request_and_keeps_the_old_version_warm(
    support: Running, candidate_bundle: Bundle
) -> None:
    candidate = _approve(support, candidate_bundle)
    rollout = support.start_rollout(candidate, share=0.5)
    support.context.serving.reconcile()
    done = threading.Event()

    def ask() -> list[int]:
        statuses = []
        while not done.is_set() or len(statuses) < 5:
            statuses.append(support.predict("my parcel", "refund the invoice").status_code)
        return statuses

    with ThreadPoolExecutor(4) as callers:
        asking = [callers.submit(ask) for _ in range(4)]
        with support.context.ledger.begin() as connection:
            rollouts.promote(connection, rollout, actor="test", reason="test", watch=WATCH, now=utc_now())
        support.context.serving.reconcile()
        with support.context.ledger.begin() as connection:
            rollouts.restore_previous(connection, "support", actor="test", reason="test", now=utc_now())
        support.context.serving.reconcile()
        done.set()
        statuses = [status for asked in asking for status in asked.result()]
    assert set(statuses) == {200}
    assert candidate.id not in support.context.serving.loaded  # rolled back: let go
    assert support.predict("my parcel").json()["predictions"][0]["version"] == "support@1"


def test_the_previous_version_is_let_go_when_its_watch_ends(support: Running, candidate_bundle: Bundle) -> None:
    candidate = _approve(support, candidate_bundle)
    rollout = support.start_rollout(candidate, share=0.5)
    with support.context.ledger.begin() as connection:
        rollouts.promote(connection, rollout, actor="test", reason="test", watch=WATCH, now=utc_now())
    support.context.serving.reconcile()
    assert set(support.context.serving.loaded) == {rollout.champion, candidate.id}
    with support.context.ledger.begin() as connection:
        connection.execute(update(models).values(watch_until=utc_now() - WATCH))
    support.context.serving.reconcile()
    assert set(support.context.serving.loaded) == {candidate.id}


def test_a_broken_candidate_is_reported_and_the_champion_serves_on(support: Running, candidate_bundle: Bundle) -> None:
    candidate = support.register(candidate_bundle)
    stored = support.settings.home / "storage" / candidate.bundle_uri / "model.fp32.onnx"
    stored.write_bytes(stored.read_bytes()[:100])
    support.context.serving.reconcile()
    assert support.predict("my parcel").status_code == 200
    health = support.http.get("/health").json()
    assert health["status"] == "degraded"
    assert "support@2" in health["problems"][0]
    assert "model.fp32.onnx was altered or cut" in health["problems"][0]
    with support.context.ledger.read() as connection:
        assert not replicas.all_have_loaded(connection, candidate.id, now=utc_now())


def test_a_champion_that_cannot_be_loaded_leaves_the_other_models_alone(
    support: Running,
) -> None:
    other = make_bundle(support.settings.home / "other-bundle", model="other")
    version = support.register(other)
    for file in (support.settings.home / "storage" / version.bundle_uri).iterdir():
        file.unlink()
    support.context.serving.reconcile()
    assert support.predict("my parcel").status_code == 200
    refused = support.predict("my parcel", model="other")
    assert refused.status_code == 503
    assert "other@1 could not be loaded" in refused.json()["error"]["message"]
    assert support.http.get("/v2/health/ready").status_code == 200
    assert support.http.get("/v2/models/other/ready").status_code == 503


def test_a_ledger_file_that_vanishes_is_a_ledger_that_is_away(support: Running) -> None:
    """SQLite writes on into the deleted file: feedback would be acknowledged and lost."""
    feedback = _feedback(support)
    file = support.settings.home / "ledger.db"
    moved = file.rename(file.with_name("moved.db"))
    support.context.serving._pass()
    assert support.predict("my parcel").status_code == 200
    health = support.http.get("/health").json()
    assert health["status"] == "degraded"
    assert support.http.post("/v1/feedback", json=feedback).status_code == 503
    moved.rename(file)
    support.context.serving._pass()
    assert support.http.get("/health").json()["status"] == "ok"
    assert support.http.post("/v1/feedback", json=feedback).status_code == 201


def test_while_the_ledger_is_away_the_last_table_serves_on(support: Running) -> None:
    assert support.predict("my parcel").status_code == 200
    with _ledger_away(support):
        support.context.keyring._monotonic = lambda: 1e9  # what the keyring knows is old by now
        support.context.serving._pass()
        assert support.predict("my parcel").status_code == 200
        health = support.http.get("/health").json()
        assert health["status"] == "degraded"
        assert "the ledger cannot be read" in health["problems"][0]
        assert support.http.get("/v2/health/ready").status_code == 200
        refused = support.http.post("/v1/feedback", json=_feedback(support))
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "ledger_unavailable"
    support.context.serving._pass()
    assert support.http.get("/health").json()["status"] == "ok"
    assert support.http.post("/v1/feedback", json=_feedback(support)).status_code == 201


def test_stopping_answers_what_is_under_way(start: Start, champion_bundle: Bundle) -> None:
    running = with_champion(start(), champion_bundle)
    running.gate.close()
    with ThreadPoolExecutor(2) as threads:
        asked = threads.submit(running.predict, "my parcel")
        assert running.gate.reached.acquire(timeout=10)
        stopped = threads.submit(running.server.stop)
        running.gate.open.set()
        assert asked.result().status_code == 200
        stopped.result()
    assert len(running.rows()) == 1


def _approve(running: Running, bundle: Bundle) -> ModelVersion:
    version = running.register(bundle)
    running.context.serving.reconcile()
    return version


def _feedback(running: Running) -> dict[str, str]:
    prediction = running.predict("my parcel").json()["predictions"][0]
    return {"prediction_id": prediction["id"], "label": "delivery", "source": "ground_truth"}


@contextmanager
def _ledger_away(running: Running) -> Iterator[None]:
    """The database file cannot be opened: new connections fail, and pooled ones are closed."""
    file = running.settings.home / "ledger.db"
    hidden = file.with_suffix(".hidden")
    running.context.ledger.close()
    file.rename(hidden)
    file.mkdir()
    try:
        yield
    finally:
        running.context.ledger.close()
        file.rmdir()
        hidden.rename(file)


def test_the_bare_address_leads_to_the_console(support: Running) -> None:
    response = support.http.get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/console")
