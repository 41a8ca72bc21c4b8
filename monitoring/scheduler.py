"""The monitor's clock and hands. The clock only writes rows, unique by trigger and window; leased workers do them.

So any number of monitors may run: each window of a routine is done once, and what a crash interrupts is done again by
another worker when the lease runs out. APScheduler alone promises neither.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from monitoring.core.cron import read_cron
from monitoring.core.errors import LeewayError, MisConfigured
from monitoring.core.ledger import ticks
from monitoring.core.ledger.database import Ledger
from monitoring.core.ledger.ticks import Tick
from monitoring.core.types import Clock

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=30)
POLL_SECONDS = 0.5
STOP_SECONDS = 15.0
CRON_WINDOW = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _once() -> Sequence[str]:
    return ("",)


@dataclass(frozen=True)
class Routine:
    """Something done again and again: every so often, or by a cron expression of five fields (UTC).

    `subjects` says, at each firing, what it is to be done for, such as the models known then; `do` is called for one of
    them. It may be interrupted anywhere and done again. `local`: its subjects are this host's, the same at all times,
    and only a scheduler that has them does them.
    """

    name: str
    when: timedelta | str
    do: Callable[[str], None]
    subjects: Callable[[], Iterable[str]] = _once
    local: bool = False

    def window(self, now: datetime) -> datetime:
        """The window in which `now` lies: the same for every clock, however late it fires."""
        return floor_time(now, self.when if isinstance(self.when, timedelta) else CRON_WINDOW)

    def trigger(self, subject: str) -> str:
        """What its runs for `subject` are called in the ledger: `watch:support`."""
        return f"{self.name}:{subject}" if subject else self.name


class Observe(Protocol):
    """Is told of each run that has ended."""

    def __call__(self, routine: str, seconds: float, *, failed: bool) -> None: ...


def _unobserved(routine: str, seconds: float, *, failed: bool) -> None:
    """Nobody counts."""


class Scheduler:
    """One clock and a few workers on the shared ledger."""

    def __init__(
        self,
        routines: Sequence[Routine],
        *,
        ledger: Ledger,
        clock: Clock,
        owner: str,
        workers: int = 2,
        lease: timedelta = LEASE,
        observe: Observe = _unobserved,
    ) -> None:
        """Raises MisConfigured for a cron expression that cannot be read."""
        self.missed = 0
        self._routines: Mapping[str, Routine] = {routine.name: routine for routine in routines}
        self._triggers = {routine.name: _clock_trigger(routine) for routine in routines}
        self._local = {one.name: [one.trigger(subject) for subject in one.subjects()] for one in routines if one.local}
        self._ledger = ledger
        self._now = clock
        self._owner = owner
        self._lease = lease
        self._observe = observe
        self._under_way: dict[str, Tick] = {}
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._clock = BackgroundScheduler(timezone=UTC, job_defaults={"coalesce": True, "misfire_grace_time": None})
        self._clock.add_listener(self._on_missed, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
        self._clock.add_listener(self._on_clock_error, EVENT_JOB_ERROR)
        self._workers = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Ask for every interval routine at once, and from then on in time."""
        for name, trigger in self._triggers.items():
            begin = {} if isinstance(trigger, CronTrigger) else {"next_run_time": datetime.now(UTC)}
            self._clock.add_job(self._ask, trigger, [self._routines[name]], id=name, **begin)
        self._clock.add_job(self._renew, IntervalTrigger(seconds=self._lease.total_seconds() / 3), id="renew leases")
        self._clock.start()
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """Let the runs under way end; those that take too long are left to whoever finds their lease run out."""
        self._stopping.set()
        self._asked.set()
        for worker in self._workers:
            worker.join(STOP_SECONDS / len(self._workers))
        self._clock.shutdown(wait=True)

    def _ask(self, routine: Routine) -> None:
        triggers = [routine.trigger(subject) for subject in routine.subjects()]
        if not triggers:
            return
        with self._ledger.begin() as connection:
            for trigger in triggers:
                ticks.insert(connection, trigger, routine.window(self._now()))
        self._asked.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                tick = self._claim()
            except Exception:  # the ledger may be away for a while; the worker must outlive that
                log.exception("no run can be claimed from the ledger; trying again")
                tick = None
            if tick is not None:
                self._do(tick)
            else:
                self._asked.wait(POLL_SECONDS)
                self._asked.clear()

    def _claim(self) -> Tick | None:
        with self._ledger.read() as connection:
            if not ticks.waits(connection, now=self._now(), local=self._local):
                return None
        with self._ledger.begin() as connection:
            return ticks.claim(connection, owner=self._owner, lasts=self._lease, now=self._now(), local=self._local)

    def _do(self, tick: Tick) -> None:
        name, _, subject = tick.trigger.partition(":")
        self._under_way[tick.id] = tick
        began, error = self._now(), None
        try:
            if name in self._routines:
                self._routines[name].do(subject)
            else:
                error = f"this monitor has no routine {name!r}"
                log.error("%s was asked for, but %s", tick.trigger, error)
        except LeewayError as fault:  # such as a broken bundle: the message names the cure
            error = fault.message
            log.error("%s failed: %s", tick.trigger, error)
        except Exception as failure:  # whatever a routine raises must not stop the others
            error = f"{type(failure).__name__}: {failure}"
            log.exception("%s of %s failed; its next window is tried in time", tick.trigger, tick.window.isoformat())
        finally:
            del self._under_way[tick.id]
        if name in self._routines:
            self._observe(name, (self._now() - began).total_seconds(), failed=error is not None)
        self._finish(tick, error)

    def _finish(self, tick: Tick, error: str | None) -> None:
        try:
            with self._ledger.begin() as connection:
                if not ticks.finish(connection, tick, now=self._now(), error=error):
                    log.warning("%s took longer than its lease and was taken over", tick.trigger)
        except Exception:  # left unfinished, it is done again when its lease has run out
            log.exception("%s is done, but the ledger does not take it", tick.trigger)

    def _renew(self) -> None:
        under_way = list(self._under_way.values())
        if not under_way:
            return
        with self._ledger.begin() as connection:
            for tick in under_way:
                ticks.renew(connection, tick, lasts=self._lease, now=self._now())

    def _on_missed(self, event: JobEvent) -> None:
        self.missed += 1
        log.error("the clock missed a firing of %r: this process is overloaded or was asleep", event.job_id)

    def _on_clock_error(self, event: JobEvent) -> None:
        self.missed += 1
        log.error("the clock could not ask for %r: %s", event.job_id, event.exception)


def floor_time(moment: datetime, step: timedelta) -> datetime:
    """The last multiple of `step` since the epoch that is not after `moment`.

    >>> floor_time(datetime(2026, 1, 5, 12, 0, 17, tzinfo=UTC), timedelta(seconds=10)).isoformat()
    '2026-01-05T12:00:10+00:00'
    """
    return _EPOCH + (moment - _EPOCH) // step * step


def _clock_trigger(routine: Routine) -> IntervalTrigger | CronTrigger:
    if isinstance(routine.when, timedelta):
        return IntervalTrigger(seconds=routine.when.total_seconds())
    try:
        return read_cron(routine.when)
    except ValueError as error:
        raise MisConfigured(f"retrain.cron is {routine.when!r}: {error}", field="retrain.cron") from error
