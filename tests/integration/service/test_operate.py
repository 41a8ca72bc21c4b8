"""The operation API over real HTTP semantics and a real ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from monitoring.core.ledger import alerts, audit, jobs, versions
from monitoring.core.types import RetrainCause, Role, RolloutPhase, Stage
from service.routes import operate
from tests.conftest import FrozenClock
from tests.exposures import outcome
from tests.world import LABELS, World, application

Client = Callable[..., TestClient]


@pytest.fixture
def world(tmp_path: Path, clock: FrozenClock) -> World:
    return World.create(tmp_path, clock)


@pytest.fixture
def client(world: World) -> Client:
    """`client(Role.APPROVE)`: speaks with a key of that role."""
    app = application(world, operate.router)

    def with_key(*roles: Role, name: str = "grace") -> TestClient:
        return TestClient(app, headers={"Authorization": f"Bearer {world.key(name, *roles)}"})

    return with_key


def test_nobody_operates_without_a_key_or_with_one_that_may_only_predict(client: Client) -> None:
    may_predict = client(Role.PREDICT, Role.FEEDBACK)
    refused = may_predict.get("/v1/models")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "not_allowed"
    assert may_predict.get("/v1/models", headers={"Authorization": ""}).status_code == 401


def test_whoever_may_operate_cannot_approve_and_the_other_way_round(client: Client, world: World) -> None:
    world.champion()
    candidate = world.candidate()
    operator, approver = client(Role.OPERATE, name="olga"), client(Role.APPROVE, name="ada")
    refused = operator.post(f"/v1/versions/{candidate.name}/approve", json={"reason": "fine"})
    assert refused.status_code == 403
    assert "approve" in refused.json()["error"]["message"]
    assert approver.post("/v1/models/support/retrain", json={"reason": "new words"}).status_code == 403
    assert world.version(candidate.id).stage is Stage.AWAITING_APPROVAL
    assert approver.get("/v1/versions").status_code == operator.get("/v1/versions").status_code == 200


def test_a_version_is_shown_with_its_evidence_and_without_its_storage(client: Client, world: World) -> None:
    candidate = world.candidate()
    body = client(Role.OPERATE).get(f"/v1/versions/{candidate.name}").json()
    assert body["id"] == candidate.id
    assert body["name"] == "support@1"
    assert body["labels"] == list(LABELS)
    assert body["evidence"]["gates"][0]["name"] == "parity"
    assert body["evidence"]["metrics"]["champion"]["per_class"]["gift_card"]["precision"] is None
    assert body["approval"] is None
    assert datetime.fromisoformat(body["created_at"]) == candidate.created_at
    assert "bundle_uri" not in body


def test_an_approval_names_the_person_binds_to_the_bundle_and_expires(client: Client, world: World) -> None:
    world.champion()
    candidate = world.candidate()
    approver = client(Role.APPROVE, name="ada")
    path = f"/v1/versions/{candidate.name}/approve"
    other = approver.post(path, json={"reason": "better", "bundle_hash": "0" * 64})
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "conflict"
    body = approver.post(path, json={"reason": "better", "bundle_hash": candidate.bundle_hash}).json()
    assert body["stage"] == "approved"
    assert body["approval"]["person"] == "ada"
    assert body["approval"]["reason"] == "better"
    lasts = datetime.fromisoformat(body["approval"]["expires_at"]) - world.clock()
    assert lasts == timedelta(hours=72)
    with world.ledger.read() as connection:
        event = audit.events(connection, subject=candidate.name)[0]
    assert (event.actor, event.action, event.reason) == ("ada", "stage:approved", "better")
    assert approver.post(path, json={"reason": "again"}).status_code == 409


def test_a_models_first_version_goes_into_production_by_approval(client: Client, world: World) -> None:
    candidate = world.candidate()
    body = client(Role.APPROVE).post(f"/v1/versions/{candidate.id}/approve", json={"reason": "first"}).json()
    assert body["stage"] == "production"


def test_a_rejection_is_for_good(client: Client, world: World) -> None:
    candidate = world.candidate()
    approver = client(Role.APPROVE)
    body = approver.post(f"/v1/versions/{candidate.name}/reject", json={"reason": "a slice lost"}).json()
    assert body["stage"] == "rejected"
    assert body["approval"]["decision"] == "rejected"
    assert body["approval"]["expires_at"] is None
    assert approver.post(f"/v1/versions/{candidate.name}/approve", json={"reason": "yes"}).status_code == 409


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "reason is missing: give it, it is required"),
        ({"reason": ""}, "reason is empty: give at least 1 character"),
        ({"reason": "  "}, "say in a few words why"),
        ({"reason": "x" * 2001}, "reason has 2001 characters: give at most 2000 characters"),
        ({"reason": 7}, "reason is 7: give a text in quotes"),
        ({"raison": "why"}, "reason is missing: give it, it is required; raison is not known: leave it out"),
    ],
)
def test_a_reason_is_required(client: Client, world: World, body: dict[str, Any], words: str) -> None:
    candidate = world.candidate()
    refused = client(Role.APPROVE).post(f"/v1/versions/{candidate.name}/approve", json=body)
    assert refused.status_code == 422
    assert refused.json()["error"]["field"] == "reason"
    assert words in refused.json()["error"]["message"]
    assert world.version(candidate.id).stage is Stage.AWAITING_APPROVAL


def test_models_show_who_serves_and_what_becomes_of_proposed_classes(client: Client, world: World) -> None:
    champion = world.champion()
    world.alert(world.approve(world.candidate()))
    rollout = world.rollout(world.version("support@2"))
    said = [("gift_card", number) for number in range(20)] + [("warranty", number) for number in range(3)]
    world.add_evidence([], [outcome(rollout, f"{label}{number}", label=label) for label, number in said])
    (model,) = client(Role.OPERATE).get("/v1/models").json()["models"]
    assert model["champion"] == champion.name
    assert model["previous"] is None
    assert model["watch_until"] is None
    assert model["rollout"] == rollout.id
    assert model["open_alerts"] == ["drift"]
    enough, too_few = model["proposed_classes"]
    assert enough == {
        "label": "gift_card",
        "examples": 20,
        "needed": 20,
        "note": "20 examples: the next retraining adds it",
    }
    assert too_few["note"] == "3 of 20 examples: added by retraining from 20 examples on"


def test_versions_are_filtered_by_model_and_stage(client: Client, world: World) -> None:
    world.champion()
    world.candidate()
    world.champion(model="triage")
    operator = client(Role.OPERATE)
    of_model = operator.get("/v1/versions", params={"model": "support"}).json()["versions"]
    assert [version["name"] for version in of_model] == ["support@2", "support@1"]
    waiting = operator.get("/v1/versions", params={"stage": "awaiting_approval"}).json()["versions"]
    assert [version["name"] for version in waiting] == ["support@2"]
    assert operator.get("/v1/versions", params={"stage": "retired"}).status_code == 422


@pytest.mark.parametrize("path", ["versions", "rollouts", "jobs", "drift", "alerts"])
def test_a_misspelt_model_is_an_error_that_names_those_there_are(client: Client, world: World, path: str) -> None:
    world.champion()
    refused = client(Role.OPERATE).get(f"/v1/{path}", params={"model": "suport"})
    assert refused.status_code == 404
    assert "support" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["versions/support@9", "versions/nonsense", "rollouts/nonsense"])
def test_what_does_not_exist_is_not_found(client: Client, path: str) -> None:
    assert client(Role.OPERATE).get(f"/v1/{path}").status_code == 404


def test_a_rollout_is_paused_resumed_and_aborted_by_a_person(client: Client, world: World, clock: FrozenClock) -> None:
    world.champion()
    rollout = world.rollout(world.approve(world.candidate()), share=0.25)
    operator = client(Role.OPERATE, name="olga")

    def act(verb: str) -> httpx.Response:
        clock.advance(timedelta(minutes=1))
        return cast(httpx.Response, operator.post(f"/v1/rollouts/{rollout.id}/{verb}", json={"reason": f"to {verb}"}))

    paused = act("pause").json()
    assert (paused["phase"], paused["share"], paused["candidate_name"]) == ("inconclusive", 0.25, "support@2")
    resumed = act("resume").json()
    assert resumed["phase"] == "running"
    assert datetime.fromisoformat(resumed["step_started_at"]) == clock.now
    assert act("resume").status_code == 409
    aborted = act("abort").json()
    assert (aborted["phase"], aborted["share"]) == ("failed", 0.0)
    assert world.version("support@2").stage is Stage.ROLLED_BACK
    assert act("abort").status_code == 409
    with world.ledger.read() as connection:
        acts = [event for event in audit.events(connection, subject="support") if event.actor == "olga"]
    assert [event.action for event in acts] == ["rollout:rollback", "rollout:resume", "rollout:pause"]
    assert [event.reason for event in acts] == ["to abort", "to resume", "to pause"]


def test_a_person_promotes_and_rolls_back(client: Client, world: World) -> None:
    first = world.champion()
    rollout = world.rollout(world.approve(world.candidate()))
    operator = client(Role.OPERATE)
    promoted = operator.post("/v1/rollouts/support/promote", json={"reason": "it is urgent"}).json()
    assert promoted["id"] == rollout.id
    assert promoted["phase"] == "successful"
    (model,) = operator.get("/v1/models").json()["models"]
    assert (model["champion"], model["previous"]) == ("support@2", "support@1")
    assert datetime.fromisoformat(model["watch_until"]) == world.clock() + timedelta(hours=72)
    restored = operator.post("/v1/models/support/rollback", json={"reason": "worse in production"}).json()
    assert (restored["id"], restored["stage"]) == (first.id, "production")
    assert world.version("support@2").stage is Stage.ROLLED_BACK
    again = operator.post("/v1/models/support/rollback", json={"reason": "once more"})
    assert again.status_code == 409
    assert "no previous version" in again.json()["error"]["message"]


def test_a_recalibration_is_asked_for_beside_a_retraining_and_once(client: Client, world: World) -> None:
    world.champion()
    operator, approver = client(Role.OPERATE), client(Role.APPROVE, name="ada")
    assert approver.post("/v1/models/support/recalibrate", json={"reason": "too sure"}).status_code == 403
    operator.post("/v1/models/support/retrain", json={"reason": "new product line"})
    asked = operator.post("/v1/models/support/recalibrate", json={"reason": "too sure"})
    assert asked.status_code == 202
    assert (asked.json()["cause"], asked.json()["state"]) == ("calibration", "queued")
    again = operator.post("/v1/models/support/recalibrate", json={"reason": "again"})
    assert again.status_code == 409
    assert "already has an open training job for calibration" in again.json()["error"]["message"]
    assert operator.post("/v1/models/other/recalibrate", json={"reason": "again"}).status_code == 404


def test_retraining_is_asked_for_once(client: Client, world: World) -> None:
    world.champion()
    operator = client(Role.OPERATE)
    asked = operator.post("/v1/models/support/retrain", json={"reason": "new product line"})
    assert asked.status_code == 202
    assert (asked.json()["cause"], asked.json()["state"]) == ("manual", "queued")
    assert operator.post("/v1/models/support/retrain", json={"reason": "again"}).status_code == 409
    assert operator.post("/v1/models/other/retrain", json={"reason": "again"}).status_code == 404
    with world.ledger.begin() as connection:
        jobs.request(
            connection,
            model="support",
            cause=RetrainCause.SCHEDULE,
            reason="cron",
            request={},
            actor="monitor",
            now=world.clock(),
        )
    found = operator.get("/v1/jobs", params={"model": "support"}).json()["jobs"]
    assert {job["cause"] for job in found} == {"manual", "schedule"}


def test_drift_reports_say_null_where_nothing_can_be_said(client: Client, world: World, clock: FrozenClock) -> None:
    champion = world.champion()
    world.report(champion)
    clock.advance(timedelta(hours=1))
    newest = world.report(champion)
    reports = client(Role.OPERATE).get("/v1/drift").json()["reports"]
    assert reports[0]["id"] == newest
    assert len(reports) == 2
    assert reports[0]["version_name"] == "support@1"
    assert reports[0]["calibration"] == {"ece": None}
    assert reports[0]["findings"][1]["p_value"] is None
    assert reports[0]["estimated_accuracy"] == {"value": 0.741, "low": 0.702, "high": 0.781}
    assert len(client(Role.OPERATE, name="other").get("/v1/drift", params={"limit": 1}).json()["reports"]) == 1


def test_alerts_can_be_narrowed_to_the_open_ones(client: Client, world: World) -> None:
    champion = world.champion()
    alert = world.alert(champion)
    with world.ledger.begin() as connection:
        alerts.resolve(connection, alert, reason="over", now=world.clock())
    world.alert(champion, name="quality")
    operator = client(Role.OPERATE)
    assert {found["name"] for found in operator.get("/v1/alerts").json()["alerts"]} == {"drift", "quality"}
    (still,) = operator.get("/v1/alerts", params={"open": True}).json()["alerts"]
    assert (still["name"], still["resolved_at"], still["detail"]["n_seen"]) == ("quality", None, 1841)


def test_the_audit_trail_is_checked_on_request(client: Client, world: World, tmp_path: Path) -> None:
    world.champion()
    operator = client(Role.OPERATE)
    trail = operator.get("/v1/audit", params={"subject": "support@1", "check": True}).json()
    assert [event["action"] for event in trail["events"]] == [
        "stage:production",
        "stage:approved",
        "stage:awaiting_approval",
        "register",
    ]
    assert trail["first_broken_link"] is None
    with world.ledger.begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET reason = 'forged' WHERE sequence = 3")
    assert operator.get("/v1/audit", params={"check": True}).json()["first_broken_link"] == 3


def test_a_refused_act_changes_nothing(client: Client, world: World) -> None:
    world.champion()
    rollout = world.rollout(world.approve(world.candidate()))
    operator = client(Role.OPERATE)
    with world.ledger.begin() as connection:  # another promotion has won the race
        state = versions.model_state(connection, "support")
        other = versions.find(connection, model="support")[0]
        versions.set_champion(
            connection, state, production=other.id, previous=None, watch_until=None, now=world.clock()
        )
    assert operator.post(f"/v1/rollouts/{rollout.id}/promote", json={"reason": "now"}).status_code == 409
    assert world.read_rollout(rollout).phase is RolloutPhase.RUNNING
    assert world.version("support@1").stage is Stage.PRODUCTION
    assert world.version("support@2").stage is Stage.SHADOW


def test_every_operation_is_documented_with_security_and_errors(client: Client) -> None:
    app = cast(FastAPI, client(Role.OPERATE).app)
    for path, operations in app.openapi()["paths"].items():
        for operation in operations.values():
            assert operation["security"], path
            assert operation["summary"], path
            assert {"401", "403", "404", "409"} <= operation["responses"].keys(), path
