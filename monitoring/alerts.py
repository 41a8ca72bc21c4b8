"""The outbox leaves: each notification is posted to the webhook at least once, with growing pauses between attempts.

Receivers recognise a repetition by `notification`. Without a webhook, the log is the receiver.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx

from monitoring.core.errors import MisConfigured
from monitoring.core.ledger import alerts
from monitoring.core.ledger.alerts import Notification
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import AlertSettings
from monitoring.core.types import Clock

log = logging.getLogger(__name__)

FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=5)


class OutboxSender:
    """Delivers what waits in the outbox."""

    def __init__(self, ledger: Ledger, settings: AlertSettings, clock: Clock) -> None:
        """Raises MisConfigured for a webhook_url that is no http(s) address."""
        self._ledger = ledger
        self._url = _checked(settings.webhook_url)
        self._console_url = settings.console_url
        self._now = clock
        self._client = httpx.Client(timeout=settings.timeout_seconds)

    def something_is_due(self) -> bool:
        """Whether a notification should be tried now."""
        with self._ledger.read() as connection:
            return bool(alerts.due(connection, now=self._now(), limit=1))

    def deliver(self) -> int:
        """Try what is due; the number that arrived. A receiver that cannot be reached is left alone until later."""
        with self._ledger.read() as connection:
            waiting = alerts.due(connection, now=self._now())
        arrived = 0
        for notification, fault, reachable in self._attempts(waiting):
            self._record(notification, fault)
            arrived += fault is None
            if not reachable:
                break  # the others would wait as long for nothing
        return arrived

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    def _attempts(self, waiting: list[Notification]) -> Iterator[tuple[Notification, str | None, bool]]:
        """Each notification with what went wrong, None where it arrived, and whether the receiver answered at all."""
        for notification in waiting:
            if self._url is None:
                payload = notification.payload
                log.warning("alert %s: %s", payload["status"], payload["summary"])
                yield notification, None, True
                continue
            try:
                self._client.post(self._url, json=self._message(notification)).raise_for_status()
                yield notification, None, True
            except httpx.HTTPStatusError as error:
                yield notification, f"the webhook answered {error.response.status_code}", True
            except httpx.HTTPError as error:
                yield notification, f"the webhook cannot be reached: {error or type(error).__name__}", False

    def _message(self, notification: Notification) -> dict[str, Any]:
        return {**notification.payload, "notification": notification.id, "console_url": self._console_url}

    def _record(self, notification: Notification, fault: str | None) -> None:
        now = self._now()
        with self._ledger.begin() as connection:
            if fault is None:
                alerts.mark_delivered(connection, notification, now=now)
                return
            pause = pause_after(notification.attempts + 1)
            alerts.mark_failed(connection, notification, error=fault, retry_in=pause, now=now)
        log.error("notification %s not delivered, next attempt in %s: %s", notification.id, pause, fault)


def pause_after(attempts: int) -> timedelta:
    """How long to wait after so many failed attempts: doubled each time, five minutes at most.

    >>> [pause_after(attempts).total_seconds() for attempts in (1, 2, 3, 100)]
    [1.0, 2.0, 4.0, 300.0]
    """
    doublings = min(attempts - 1, 20)
    return min((1 << doublings) * FIRST_PAUSE, LONGEST_PAUSE)


def _checked(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise MisConfigured(f"alerts.webhook_url {url!r} is not a URL: {error}", field="alerts.webhook_url") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise MisConfigured(
            f"alerts.webhook_url {url!r} needs http:// or https:// and a host", field="alerts.webhook_url"
        )
    return url
