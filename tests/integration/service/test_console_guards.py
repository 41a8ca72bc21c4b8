"""Who gets into the console, and whose forms it obeys."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from monitoring.core.types import Role, RolloutPhase, Stage
from service.console.session import page_to_return_to
from service.routes import console
from tests.browsing import Browser, words
from tests.conftest import FrozenClock
from tests.world import World, application, furnish

APPROVE, OPERATE = Role.APPROVE, Role.OPERATE


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


def test_a_stranger_is_sent_to_the_login_and_back_to_the_page_they_wanted(app: FastAPI, world: World) -> None:
    furnish(world)
    browser = Browser(app)
    sent = browser.get("/versions/support@2")
    assert sent.status_code == 303
    login = sent.headers["location"]
    arrived = browser.log_in(world.key("grace", APPROVE), wanted=login.removeprefix("/console/login"))
    assert arrived.headers["location"] == "/console/versions/support@2"
    assert browser.get("/versions/support@2").status_code == 200


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example", "//evil.example", "/consolee", "/console//evil", "/console/\\evil", "x"]
)
def test_the_login_leads_nowhere_but_into_the_console(elsewhere: str) -> None:
    assert page_to_return_to(elsewhere) == "/console"


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(app: FastAPI, world: World) -> None:
    arrived = Browser(app).log_in(world.key("grace", APPROVE))
    cookie = next(c for c in arrived.headers.get_list("set-cookie") if c.startswith("leeway_session="))
    assert {"httponly", "samesite=strict", "path=/console"} <= {part.strip().lower() for part in cookie.split(";")}
    assert "secure" not in cookie.lower()
    client = TestClient(app, headers={"x-forwarded-proto": "https"})
    assert "secure" in client.get("/console/login").headers["set-cookie"].lower()


def test_a_wrong_key_and_one_without_the_role_are_told_apart(app: FastAPI, world: World) -> None:
    browser = Browser(app)
    unknown = browser.log_in("lw_nonsense")
    assert unknown.status_code == 401
    assert "not known here" in words(unknown)
    weak = browser.log_in(world.key("app", Role.PREDICT, Role.FEEDBACK))
    assert weak.status_code == 403
    assert "lacks the role operate or approve" in words(weak)
    assert browser.get().status_code == 303


def test_the_login_form_must_be_ours(app: FastAPI, world: World) -> None:
    key = world.key("grace", APPROVE)
    assert Browser(app).post("/login", key=key, token="").status_code == 403
    browser = Browser(app)
    browser.get("/login")
    assert browser.post("/login", key=key, token="forged").status_code == 403
    assert browser.get().status_code == 303


def test_a_session_ends_by_logging_out_and_by_itself(
    grace: Browser, app: FastAPI, world: World, clock: FrozenClock
) -> None:
    cookie = grace.client.cookies["leeway_session"]
    assert grace.send("", "/logout").headers["location"] == "/console/login"
    grace.client.cookies.set("leeway_session", cookie)
    assert grace.get().status_code == 303
    other = Browser(app)
    other.log_in(world.key("ada", APPROVE))
    clock.advance(timedelta(hours=8))
    assert other.get().status_code == 303


@pytest.mark.parametrize(
    "path", ["/logout", "/versions/support@2/approve", "/versions/support@2/reject", "/rollouts/triage/abort"]
)
@pytest.mark.parametrize("csrf", ["", "forged"])
def test_a_form_without_the_sessions_token_does_nothing(grace: Browser, world: World, path: str, csrf: str) -> None:
    rollout = furnish(world)["rollout"]
    assert grace.post(path, csrf=csrf, reason="tricked").status_code == 403
    assert world.version("support@2").stage is Stage.AWAITING_APPROVAL
    assert world.read_rollout(rollout).phase is RolloutPhase.RUNNING
    assert grace.get().status_code == 200


def test_whoever_follows_a_link_from_a_chat_gets_a_page_that_reloads_itself(app: FastAPI) -> None:
    arrived = Browser(app).get("/versions/support@2", **{"sec-fetch-site": "cross-site"})
    assert arrived.status_code == 200
    assert 'http-equiv="refresh"' in arrived.text


def test_style_and_icon_need_no_login(app: FastAPI) -> None:
    browser = Browser(app)
    assert "prefers-color-scheme: dark" in browser.get("/style.css").text
    assert browser.get("/icon.svg").headers["content-type"].startswith("image/svg+xml")
