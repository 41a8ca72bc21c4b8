"""Who is told of alerts: the webhook, whatever Apprise knows an address for, and the log where nobody else is named.

Addresses hold secrets: they are never logged, told or stored. A receiver is known by its kind and a piece of a hash.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from monitoring.core.errors import MisConfigured
from monitoring.core.ids import new_id
from monitoring.core.ledger.alerts import Notification
from monitoring.core.settings import AlertSettings
from monitoring.core.types import Severity
from monitoring.deliveries import Fault, Wants, in_words, loudest

if TYPE_CHECKING:
    from apprise import NotifyBase

log = logging.getLogger(__name__)

TYPES = {None: "success", Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}
"""Severity in Apprise's words."""
ANSWERED = re.compile(r"error=(\d{3})\b")


class Receiver(Wants, Protocol):
    """Takes notifications."""

    def send(self, together: Sequence[Notification]) -> Fault | None:
        """Tell it; what went wrong, None where they have arrived. Raises nothing and returns in bounded time."""

    def close(self) -> None:
        """Give back the connections."""


class Log:
    """The receiver where none is named."""

    name = "log"
    least = Severity.INFO
    gathers: timedelta | None = None

    def send(self, together: Sequence[Notification]) -> Fault | None:
        """A line each."""
        for one in together:
            log.warning("alert %s: %s", one.payload["status"], one.payload["summary"])
        return None

    def close(self) -> None:
        """Nothing is open."""


class Webhook:
    """Each notification as one JSON object; a repetition bears the same `notification`."""

    name = "webhook"
    least = Severity.INFO
    gathers: timedelta | None = None

    def __init__(self, url: str, settings: AlertSettings) -> None:
        """Raises MisConfigured for what is no http(s) address."""
        self.url = _checked(url)
        self._console_url = settings.console_url
        self._client = httpx.Client(timeout=settings.timeout_seconds)

    def send(self, together: Sequence[Notification]) -> Fault | None:
        """Post them until one is not taken."""
        for one in together:
            message = {**one.payload, "notification": one.id, "console_url": self._console_url}
            try:
                self._client.post(self.url, json=message).raise_for_status()
            except httpx.HTTPStatusError as error:
                return Fault(f"the webhook answered {error.response.status_code}", reachable=True)
            except httpx.HTTPError as error:
                return Fault(f"the webhook cannot be reached: {error or type(error).__name__}", reachable=False)
        return None

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    def is_reachable(self, timeout: float) -> bool:
        """Whether something accepts connections there."""
        port = self.url.port or {"https": 443, "http": 80}[self.url.scheme]
        try:
            with socket.create_connection((self.url.host, port), timeout=timeout):
                return True
        except OSError:
            return False


class AppriseReceiver:
    """One address of Apprise's: mail, Slack, Teams, PagerDuty, Telegram and a hundred others."""

    def __init__(self, plugin: NotifyBase, address: str, settings: AlertSettings) -> None:
        self.name = f"{plugin.service_name} {sha256(address.encode()).hexdigest()[:6]}"
        self.least = settings.notify_severity
        self.gathers: timedelta | None = timedelta(seconds=settings.group_seconds)
        self._plugin: Any = plugin
        plugin.socket_connect_timeout = plugin.socket_read_timeout = settings.timeout_seconds
        self._console_url = settings.console_url

    def send(self, together: Sequence[Notification]) -> Fault | None:
        """All as one message."""
        title, body = in_words(together, self._console_url)
        with HUSH.heard() as said:
            taken = self._plugin.notify(title=title, body=body, notify_type=TYPES[loudest(together)])
        if taken:
            return None
        answered = ANSWERED.search("\n".join(said))
        if answered is None:
            return Fault(f"{self.name} cannot be reached, or refuses", reachable=False)
        return Fault(f"{self.name} answered {answered[1]}", reachable=True)

    def close(self) -> None:
        """Apprise keeps nothing open."""


def trial(now: datetime, severity: Severity) -> Notification:
    """A notification that says that it is a test."""
    mark, moment = new_id(), now.isoformat()
    payload = {
        "status": "firing",
        "alert": "test",
        "model": "none",
        "severity": severity,
        "summary": "a test of this receiver: nothing is wrong",
        "reason": "",
        "detail": {},
        "started_at": moment,
        "at": moment,
        "id": mark,
    }
    return Notification(mark, payload, 0, now, {})


def receivers_of(settings: AlertSettings) -> list[Receiver]:
    """All that the settings name. Raises MisConfigured, without telling the address, for one that cannot work."""
    found: list[Receiver] = []
    if settings.webhook_url is not None:
        found.append(Webhook(settings.webhook_url, settings))
    for where, address in _addresses(settings):
        found.append(AppriseReceiver(_plugin(where, address), address, settings))
    names = [receiver.name for receiver in found]
    if len(set(names)) < len(names):
        raise MisConfigured("alerts.notify names the same receiver twice", field="alerts.notify")
    return found or [Log()]


def _addresses(settings: AlertSettings) -> Iterator[tuple[str, str]]:
    """Each with what to call it in an error."""
    for number, secret in enumerate(settings.notify, 1):
        yield f"alerts.notify: address {number}", secret.get_secret_value()
    if settings.notify_file is not None:
        try:
            lines = settings.notify_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise MisConfigured(f"alerts.notify_file cannot be read: {error}", field="alerts.notify_file") from error
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield f"alerts.notify_file: line {number}", line.strip()


def _plugin(where: str, address: str) -> NotifyBase:
    scheme, colon, _ = address.partition("://")
    kind = f"{scheme}://…" if colon and scheme.isalnum() else "something without scheme://"
    with warnings.catch_warnings():  # it loads all its services at once, some by ways that are going out of use
        warnings.simplefilter("ignore")
        from apprise import Apprise

        logging.getLogger("apprise").addFilter(HUSH)
        plugin = Apprise.instantiate(address)
    if plugin is None:
        cure = "see https://appriseit.com/services/ for how it is written"
        raise MisConfigured(f"{where} ({kind}) is none that Apprise understands: {cure}", field="alerts.notify")
    return plugin


class _Hush(logging.Filter):
    """Keeps what Apprise says, which may hold addresses, from every log, and for the thread that has asked."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[int | None, list[str]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Let nothing through."""
        if record.levelno >= logging.WARNING and record.thread in self._said:
            self._said[record.thread].append(record.getMessage())
        return False

    @contextmanager
    def heard(self) -> Iterator[list[str]]:
        """The warnings of this thread."""
        thread, said = threading.get_ident(), list[str]()
        self._said[thread] = said
        try:
            yield said
        finally:
            del self._said[thread]


HUSH = _Hush()


def _checked(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise MisConfigured(f"alerts.webhook_url is not a URL: {error}", field="alerts.webhook_url") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise MisConfigured("alerts.webhook_url needs http:// or https:// and a host", field="alerts.webhook_url")
    return parsed
