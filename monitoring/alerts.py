"""The outbox leaves: each notification reaches every receiver at least once, with growing pauses between attempts.

Receivers are told side by side, so that a dead one delays nobody. A repetition, after a crash between sending and
recording, bears the same mark.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitoring.core.ledger import alerts
from monitoring.core.ledger.alerts import Notification
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import AlertSettings
from monitoring.core.types import Clock
from monitoring.deliveries import Fault, attempts_of, groups, pause_after, settle
from monitoring.receivers import Receiver, receivers_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Told:
    """What a receiver made of what was due to it: by notification what went wrong, None where it arrived.

    `alone_until`: until when it is left alone with all the rest, because it cannot be reached.
    """

    outcomes: Mapping[str, Fault | None]
    alone_until: datetime | None = None


class OutboxSender:
    """Delivers what waits in the outbox."""

    def __init__(self, ledger: Ledger, settings: AlertSettings, clock: Clock) -> None:
        """Raises MisConfigured for a receiver that cannot work."""
        self._ledger = ledger
        self._receivers = receivers_of(settings)
        self._gathering = max((one.gathers or timedelta(0) for one in self._receivers), default=timedelta(0))
        self._now = clock

    def something_is_due(self) -> bool:
        """Whether a notification should be tried now."""
        with self._ledger.read() as connection:
            return bool(alerts.due(connection, now=self._now(), limit=1))

    def deliver(self) -> int:
        """Try what is due; the number that by now have arrived wherever they are wanted."""
        with self._ledger.read() as connection:
            waiting = alerts.due(connection, now=self._now() + self._gathering)
        if not waiting:
            return 0
        with ThreadPoolExecutor(len(self._receivers)) as side_by_side:
            told = list(side_by_side.map(lambda receiver: self._tell(receiver, waiting), self._receivers))
        return sum(self._record(notification, told) for notification in waiting)

    def close(self) -> None:
        """Give back the connections."""
        for receiver in self._receivers:
            receiver.close()

    def _tell(self, receiver: Receiver, waiting: Sequence[Notification]) -> Told:
        """What is due to one receiver. One that cannot be reached is left alone: the rest would wait for nothing."""
        outcomes: dict[str, Fault | None] = {}
        for together in groups(waiting, receiver, self._now()):
            try:
                fault = receiver.send(together)
            except Exception as error:  # a library's own: the others must be told all the same
                fault = Fault(type(error).__name__, reachable=True)
            outcomes |= dict.fromkeys((one.id for one in together), fault)
            if fault is not None and not fault.reachable:
                pause = pause_after(attempts_of(together[0], receiver.name) + 1)
                return Told(outcomes, alone_until=self._now() + pause)
        return Told(outcomes)

    def _record(self, notification: Notification, told: Sequence[Told]) -> bool:
        """Keep each receiver's account; whether the notification is done with."""
        now = self._now()
        tried: dict[str, Fault | None] = {}
        postponed: dict[str, datetime] = {}
        for receiver, one in zip(self._receivers, told, strict=True):
            if notification.id in one.outcomes:
                tried[receiver.name] = fault = one.outcomes[notification.id]
                if fault is not None:
                    log.error("notification %s not delivered, it will be tried again: %s", notification.id, fault.text)
            elif one.alone_until is not None:
                postponed[receiver.name] = one.alone_until
        settled = settle(notification, tried, self._receivers, now, postponed=postponed)
        with self._ledger.begin() as connection:
            alerts.record_attempt(connection, notification, **vars(settled), now=now)
        return settled.next_attempt_at is None
