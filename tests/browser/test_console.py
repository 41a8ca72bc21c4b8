"""The console in a real Chromium, without JavaScript, served by a real service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from monitoring.core.settings import load_settings
from monitoring.core.types import Role, Stage, utc_now
from service.app import Service
from service.server import HttpServer
from tests.world import World, furnish

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NEVER = 86_400.0  # nothing moves but by the test's hand
PAGES = [
    "",
    "/models/support",
    "/models/support/report",
    "/versions/support@2",
    "/rollouts",
    "/rollouts/triage",
    "/drift",
    "/alerts",
    "/audit",
]


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def world(home: Path) -> World:
    return World.create(home, utc_now)


@pytest.fixture
def url(world: World) -> Iterator[str]:
    """The console of a service that has something to show."""
    furnish(world)
    settings = load_settings(
        server={"port": 0, "reconcile_seconds": NEVER}, rollout={"controller_seconds": NEVER, "approval_hours": 48}
    )
    service = Service.create(settings)
    server = HttpServer(service.app, host="127.0.0.1", port=0, drain_seconds=5, on_end=lambda: None)
    service.start()
    server.start()
    yield f"http://127.0.0.1:{server.port}/console"
    server.stop()
    service.stop()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser itself found wrong: a blocked style, a missing file."""
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    opened.on("console", lambda message: note(message, complaints))
    yield opened
    context.close()


def note(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type in ("error", "warning"):
        complaints.append(message.text)


def log_in(page: Page, url: str, key: str) -> None:
    page.goto(url)
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()
    # A click does not wait for the page that it leads to: what a test does next would be lost on the one before.
    expect(page.get_by_role("button", name="Log out")).to_be_visible(timeout=20_000)


def test_an_approver_finds_reads_and_approves_a_candidate(
    page: Page, url: str, world: World, complaints: list[str]
) -> None:
    log_in(page, url, world.key("grace", Role.APPROVE))
    page.get_by_role("link", name="Review").click()
    expect(page.get_by_role("heading", name="support@2 awaiting approval")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^no worse on old passed"))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^Accuracy 92.1 % 87.4 %"))).to_be_visible()
    page.get_by_role("button", name="Approve support@2").click()  # without a reason the browser does not send it
    assert world.version("support@2").stage is Stage.AWAITING_APPROVAL
    page.get_by_label("Why approve?").fill("better on gift cards")
    page.get_by_role("button", name="Approve support@2").click()
    expect(page.get_by_text("“better on gift cards”")).to_be_visible()
    assert world.version("support@2").stage is Stage.APPROVED
    expect(page.get_by_role("button", name="Reject")).to_have_count(0)
    assert complaints == []


def test_whoever_may_not_approve_sees_why(page: Page, url: str, world: World) -> None:
    log_in(page, f"{url}/versions/support@2", world.key("olga", Role.OPERATE))
    expect(page).to_have_url(f"{url}/versions/support@2")
    expect(page.get_by_text("Your key lacks the role approve")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)


def test_logging_out_ends_the_session(page: Page, url: str, world: World) -> None:
    log_in(page, url, world.key("grace", Role.APPROVE))
    page.get_by_role("button", name="Log out").click()
    page.goto(f"{url}/audit")
    expect(page.get_by_label("API key")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_every_page_fits_its_window_and_satisfies_the_browser(
    browser: Browser, url: str, world: World, complaints: list[str], scheme: str, width: int
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
    page = context.new_page()
    page.on("console", lambda message: note(message, complaints))
    log_in(page, url, world.key("grace", Role.APPROVE, Role.OPERATE))
    grounds = set()
    for path in PAGES:
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.locator("h1").count() == 1
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == {"rgb(246, 248, 248)" if scheme == "light" else "rgb(17, 23, 22)"}
    assert complaints == []
    context.close()


def test_the_keyboard_reaches_the_content_first(page: Page, url: str, world: World) -> None:
    log_in(page, url, world.key("grace", Role.APPROVE))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
