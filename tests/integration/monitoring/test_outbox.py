from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from monitoring.alerts import OutboxSender
from monitoring.core.ledger import alerts
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import AlertSettings
from monitoring.core.tables import outbox
from monitoring.core.types import Severity
from tests.conftest import FrozenClock


class Receiver(HTTPServer):
    """A webhook that answers what it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.received: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    opened = Ledger.open("sqlite://")
    opened.upgrade()
    yield opened
    opened.close()


def test_a_notification_is_tried_until_it_arrives_and_stops_no_other(
    ledger: Ledger, receiver: Receiver, clock: FrozenClock
) -> None:
    _fire(ledger, clock, "drift")
    clock.advance(timedelta(milliseconds=1))
    _fire(ledger, clock, "quality")
    sender = OutboxSender(ledger, AlertSettings(webhook_url=receiver.url, console_url="http://desk/console"), clock)
    receiver.answers = [500, 204]
    assert sender.deliver() == 1  # the refused one does not hold up the next
    assert not sender.something_is_due()
    clock.advance(timedelta(seconds=1))
    assert sender.something_is_due()
    assert sender.deliver() == 1
    assert [message["alert"] for message in receiver.received] == ["drift", "quality", "drift"]
    first, _, again = receiver.received
    assert first["notification"] == again["notification"]
    assert first["console_url"] == "http://desk/console"
    with ledger.read() as connection:
        assert alerts.count_undelivered(connection) == 0
    sender.close()


def test_a_dead_receiver_is_left_alone_for_longer_and_longer(ledger: Ledger, clock: FrozenClock) -> None:
    dead = Receiver()
    url = dead.url
    dead.server_close()
    for number in range(3):
        _fire(ledger, clock, f"alert-{number}")
    sender = OutboxSender(ledger, AlertSettings(webhook_url=url), clock)
    assert sender.deliver() == 0
    with ledger.read() as connection:
        assert alerts.due(connection, now=clock.now) == []
        waiting = alerts.due(connection, now=clock.advance(timedelta(seconds=1)))
        assert [item.attempts for item in waiting] == [1, 0, 0]  # only one was tried
    assert sender.deliver() == 0
    with ledger.read() as connection:
        assert alerts.due(connection, now=clock.now + timedelta(seconds=1.9)) == []
        assert len(alerts.due(connection, now=clock.now + timedelta(seconds=2))) == 3
    sender.close()


def test_people_are_told_once_beside_a_dead_webhook(ledger: Ledger, receiver: Receiver, clock: FrozenClock) -> None:
    dead = Receiver()
    dead.server_close()
    settings = AlertSettings(
        webhook_url=dead.url,
        notify=(SecretStr(receiver.url.replace("http", "json")),),
        console_url="http://desk/console",
    )
    sender = OutboxSender(ledger, settings, clock)
    _fire(ledger, clock, "drift")
    clock.advance(timedelta(seconds=3))
    _fire(ledger, clock, "quality")
    assert sender.deliver() == 0
    assert receiver.received == []  # what belongs together is waited for
    clock.advance(timedelta(seconds=7))
    for _ in range(3):
        assert sender.deliver() == 0  # the webhook is still dead
        clock.advance(timedelta(minutes=5))
    [message] = receiver.received
    assert message["title"] == "Leeway, support: 2 firing"
    assert message["message"].count("the traffic has changed") == 2
    assert "http://desk/console" in message["message"]
    with ledger.read() as connection:
        assert alerts.count_undelivered(connection) == 2
    sender.close()
    assert (
        OutboxSender(ledger, AlertSettings(notify=settings.notify), clock).deliver() == 2
    )  # nobody else is waited for
    assert len(receiver.received) == 1


def test_a_refusal_names_no_address(
    ledger: Ledger, receiver: Receiver, clock: FrozenClock, caplog: pytest.LogCaptureFixture
) -> None:
    address = receiver.url.replace("http://", "json://someone:hidden@")
    sender = OutboxSender(ledger, AlertSettings(notify=(SecretStr(address),), group_seconds=0), clock)
    receiver.answers = [403]
    _fire(ledger, clock, "drift")
    assert sender.deliver() == 0
    with ledger.read() as connection:
        [told] = connection.execute(select(outbox.c.error)).scalars()
    assert told.endswith("answered 403")
    assert "hidden" not in caplog.text + told
    clock.advance(timedelta(seconds=1))
    assert sender.deliver() == 1
    sender.close()


def test_without_a_webhook_the_log_is_told(
    ledger: Ledger, clock: FrozenClock, caplog: pytest.LogCaptureFixture
) -> None:
    _fire(ledger, clock, "drift")
    sender = OutboxSender(ledger, AlertSettings(), clock)
    assert sender.deliver() == 1
    assert not sender.something_is_due()
    assert "the traffic has changed" in caplog.text
    sender.close()


def _fire(ledger: Ledger, clock: FrozenClock, name: str) -> None:
    with ledger.begin() as connection:
        alerts.fire(
            connection,
            model="support",
            version="",
            name=name,
            severity=Severity.CRITICAL,
            summary="the traffic has changed",
            detail={},
            now=clock.now,
        )
