"""Which receiver is to be told what, and when again: pure. Each receiver has its own account of every notification.

A notification has arrived when every receiver that wants it has it. A dead one is tried with growing pauses and holds
up no other; one that has a notification is never sent it again for another's sake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from monitoring.core.ledger.alerts import Notification
from monitoring.core.types import Severity

FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=5)
LOUDNESS = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
SHOWN_OF_ID = 8  # from its end, which is random; its beginning is the time

Account = Mapping[str, Mapping[str, Any]]
"""By receiver: `delivered`, or `attempts`, `next_attempt_at` and `error`."""


class Wants(Protocol):
    """What planning needs to know of a receiver.

    `gathers`: how long it waits for what belongs together, None where each notification goes by itself.
    """

    @property
    def name(self) -> str:
        """Stable over restarts, and no secret."""

    @property
    def least(self) -> Severity:
        """It hears of nothing less severe."""

    @property
    def gathers(self) -> timedelta | None:
        """See above."""


@dataclass(frozen=True)
class Fault:
    """Why a receiver did not take something. `reachable`: it answered, so that others may still get through."""

    text: str
    reachable: bool


@dataclass(frozen=True)
class Settled:
    """A notification's new account: `next_attempt_at` is None once it has arrived everywhere."""

    receivers: Account
    attempts: int
    next_attempt_at: datetime | None
    error: str | None


def pause_after(attempts: int) -> timedelta:
    """How long to wait after so many failed attempts: doubled each time, five minutes at most.

    >>> [pause_after(attempts).total_seconds() for attempts in (1, 2, 3, 100)]
    [1.0, 2.0, 4.0, 300.0]
    """
    doublings = min(attempts - 1, 20)
    return min((1 << doublings) * FIRST_PAUSE, LONGEST_PAUSE)


def groups(waiting: Sequence[Notification], receiver: Wants, now: datetime) -> Iterator[tuple[Notification, ...]]:
    """What to send to `receiver` now, oldest first: a model's notifications together where it gathers them."""
    missing = [one for one in waiting if not _has(one, receiver)]
    due = [one for one in missing if _next_attempt(one, receiver) <= now]
    if receiver.gathers is None:
        yield from ((one,) for one in due)
        return
    for model in dict.fromkeys(one.payload["model"] for one in due):  # with the oldest goes what has come since
        yield tuple(one for one in missing if one.payload["model"] == model)


def settle(
    notification: Notification,
    outcomes: Mapping[str, Fault | None],
    receivers: Sequence[Wants],
    now: datetime,
    *,
    postponed: Mapping[str, datetime],
) -> Settled:
    """The account after a pass: `outcomes` of the receivers that were tried; until when others are left alone."""
    account: dict[str, Mapping[str, Any]] = dict(notification.receivers)
    for name, fault in outcomes.items():
        if fault is None:
            account[name] = {"delivered": True}
        else:
            attempts = attempts_of(notification, name) + 1
            retry_at = now + pause_after(attempts)
            account[name] = {"attempts": attempts, "next_attempt_at": retry_at.isoformat(), "error": fault.text}
    for name, moment in postponed.items():
        account[name] = {**account.get(name, {}), "next_attempt_at": moment.isoformat()}
    after = replace(notification, receivers=account)
    missing = [receiver for receiver in receivers if not _has(after, receiver)]
    errors = [f"{one.name}: {account[one.name]['error']}" for one in missing if "error" in account.get(one.name, {})]
    return Settled(
        receivers=account,
        attempts=notification.attempts + bool(outcomes),
        next_attempt_at=min((_next_attempt(after, receiver) for receiver in missing), default=None),
        error="; ".join(errors) or None,
    )


def attempts_of(notification: Notification, receiver: str) -> int:
    """How often it was tried there in vain."""
    return int(notification.receivers.get(receiver, {}).get("attempts", 0))


def in_words(together: Sequence[Notification], console_url: str) -> tuple[str, str]:
    """Title and text of one message about `together`; an episode that is over already is told once."""
    over = {one.payload["id"] for one in together if one.payload["status"] == "resolved"}
    told = [one.payload for one in together if one.payload["status"] == "resolved" or one.payload["id"] not in over]
    firing = [payload for payload in told if payload["status"] == "firing"]
    model = told[0]["model"]
    counts = [f"{len(firing)} firing"] * bool(firing) + [f"{len(told) - len(firing)} resolved"] * (
        len(told) > len(firing)
    )
    title = f"Leeway, {model}: " + (f"{told[0]['alert']} {_status(told[0])}" if len(told) == 1 else ", ".join(counts))
    lines = [f"{_status(payload)}: {payload['alert']}: {_reason(payload)}" for payload in told]
    marks = " ".join(one.id[-SHOWN_OF_ID:] for one in together)
    return title, "\n".join([*lines, "", console_url, f"notification {marks}"])


def loudest(together: Sequence[Notification]) -> Severity | None:
    """The highest severity that fires; None where all is resolved."""
    firing = [Severity(one.payload["severity"]) for one in together if one.payload["status"] == "firing"]
    return max(firing, key=LOUDNESS.__getitem__, default=None)


def _status(payload: Mapping[str, Any]) -> str:
    return f"FIRING ({payload['severity']})" if payload["status"] == "firing" else "resolved"


def _reason(payload: Mapping[str, Any]) -> str:
    if payload["status"] == "firing":
        return str(payload["summary"])
    return f"{payload['reason']} (it began {payload['started_at'][:19]} UTC)"


def _has(notification: Notification, receiver: Wants) -> bool:
    """Whether it has arrived there, or is none of the receiver's business."""
    if LOUDNESS[Severity(notification.payload["severity"])] < LOUDNESS[receiver.least]:
        return True
    return bool(notification.receivers.get(receiver.name, {}).get("delivered"))


def _next_attempt(notification: Notification, receiver: Wants) -> datetime:
    known = notification.receivers.get(receiver.name, {}).get("next_attempt_at")
    if known is not None:
        return datetime.fromisoformat(known)
    return notification.created_at + (receiver.gathers or timedelta(0))
