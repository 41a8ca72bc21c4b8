"""`leeway monitor`, put together: what it does again and again, and its metrics."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from prometheus_client import start_http_server
from sqlalchemy import Connection

from monitoring.alerts import OutboxSender
from monitoring.asking import keep_queue
from monitoring.core.admission import Admission
from monitoring.core.cli import cannot_listen, open_ledger, open_registry
from monitoring.core.errors import Conflict
from monitoring.core.ledger import label_queue, profiles, ticks, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.settings import Settings
from monitoring.core.types import Clock
from monitoring.exporter import LedgerCollector, RoutineMetrics, registry_of
from monitoring.monitor import Monitor
from monitoring.profiles import merge_packed
from monitoring.scheduler import Routine, Scheduler, floor_time
from monitoring.shipping import ROUTINE, Place, forget_silent, leave, ship

log = logging.getLogger(__name__)

MAINTENANCE = timedelta(hours=1)
OUTBOX = timedelta(seconds=1)
TICKS_KEPT = timedelta(days=1)
SILENT_HOST = timedelta(days=1)
DAY = timedelta(days=1)
WINDOWS_KEPT = 7 * DAY


class Routines:
    """What the monitor does, each in its own time."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Clock) -> None:
        self.outbox = OutboxSender(ledger, settings.alerts, clock)
        self._settings = settings
        self._ledger = ledger
        self._now = clock
        self._place = Place.at(settings.spool_dir, host=socket.gethostname())
        self._log = PredictionLog(settings.log_url, admission=Admission.of(settings.log))
        registry = open_registry(settings, ledger)
        self._monitor = Monitor(ledger=ledger, log=self._log, registry=registry, settings=settings)

    def all(self) -> list[Routine]:
        """Shipping, watching, retraining by schedule, alerts, and keeping house."""
        settings = self._settings
        routines = [
            Routine(ROUTINE, timedelta(seconds=settings.log.ship_seconds), self._ship, lambda: [self._place.id], True),
            Routine("watch", timedelta(seconds=settings.monitor.interval_seconds), self._watch, self._models),
            Routine("outbox", OUTBOX, self._deliver, self._waiting_outbox),
            Routine("maintain", MAINTENANCE, self._maintain),
        ]
        if settings.retrain.cron is not None:
            routines.append(Routine("schedule", settings.retrain.cron, self._retrain, self._served_models))
        return routines

    def _ship(self, _: str) -> None:
        ship(self._log, self._place, self._ledger, self._now)

    def ship_rest(self) -> None:
        """Ship once more: where this process ends with its disk, as in a pod, what then waits in the spool is lost."""
        try:
            self._ship("")
            leave(self._place, self._ledger)
        except Exception:
            log.exception("what was answered last waits in the spool")

    def _watch(self, model: str) -> None:
        try:
            summaries = self._monitor.watch(model, now=self._now())
        except Conflict as conflict:  # a promotion came in between: nothing was written, the next tick goes on
            log.info("%s", conflict.message)
            return
        for summary in summaries:
            for name in summary.fired:
                log.warning("%s: alert %s fires", summary.version, name)
            for name in summary.resolved:
                log.info("%s: alert %s is resolved", summary.version, name)
        if any(summary.reports for summary in summaries):
            keep_queue(self._ledger, self._log, self._settings, model, now=self._now())

    def _retrain(self, model: str) -> None:
        decision = self._monitor.retrain_on_schedule(model, now=self._now())
        log.info("%s: scheduled retraining: %s, %s", model, decision.action, decision.reason)

    def _deliver(self, _: str) -> None:
        self.outbox.deliver()

    def _maintain(self, _: str) -> None:
        """Each step by itself: one that fails stops no other, and in the end the scheduler is told of all that did."""
        now, settings = self._now(), self._settings
        profiles_since, folded_before = now - settings.monitor.profile_days * DAY, floor_time(now - WINDOWS_KEPT, DAY)
        in_ledger: Mapping[str, Callable[[Connection], object]] = {
            "old runs": lambda connection: ticks.forget(connection, before=now - TICKS_KEPT),
            "hosts that are gone": lambda connection: forget_silent(connection, before=now - SILENT_HOST),
            "window profiles into days": lambda connection: profiles.fold_days(
                connection, before=folded_before, merge=merge_packed
            ),
            "old profiles": lambda connection: profiles.forget(connection, before=profiles_since),
            "label queue": lambda connection: label_queue.forget(
                connection, before=now - settings.log.retention_days * DAY
            ),
        }
        failures: dict[str, Exception] = {}
        for name, step in in_ledger.items():
            try:
                with self._ledger.begin() as connection:
                    step(connection)
            except Exception as failure:
                failures[name] = failure
        try:
            self._log.maintain(retention_days=settings.log.retention_days, now=now)
        except Exception as failure:
            failures["prediction log"] = failure
        if failures:
            raise ExceptionGroup(f"left undone: {', '.join(failures)}", list(failures.values()))

    def _models(self) -> Sequence[str]:
        with self._ledger.read() as connection:
            return [state.model for state in versions.model_states(connection)]

    def _served_models(self) -> Sequence[str]:
        with self._ledger.read() as connection:
            return [state.model for state in versions.model_states(connection) if state.production is not None]

    def _waiting_outbox(self) -> Sequence[str]:
        return ("",) if self.outbox.something_is_due() else ()


class MonitorProcess:
    """The monitor's role: scheduler and exporter on one ledger."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Raises MisConfigured for settings that it cannot work with."""
        self._settings = settings
        self._ledger = open_ledger(settings)
        self._routines = Routines(settings, self._ledger, clock)
        owner = f"{socket.gethostname()}:{os.getpid()}"
        collector = LedgerCollector(
            self._ledger, clock, settings=settings, missed_firings=lambda: self._scheduler.missed
        )
        self._registry = registry_of(collector)
        self._scheduler = Scheduler(
            self._routines.all(),
            ledger=self._ledger,
            clock=clock,
            owner=owner,
            observe=RoutineMetrics(self._registry).ran,
        )

    def start(self) -> int:
        """Begin; the port on which the metrics are served. Raises MisConfigured if it is taken."""
        monitor = self._settings.monitor
        try:
            self._server, self._thread = start_http_server(monitor.port, addr=monitor.host, registry=self._registry)
        except OSError as error:
            raise cannot_listen("monitor", monitor.host, monitor.port, error) from error
        self._scheduler.start()
        return int(self._server.server_port)

    def stop(self) -> None:
        """End cleanly: what is under way is finished first, and what was answered last is shipped."""
        self._scheduler.stop()
        self._routines.ship_rest()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._routines.outbox.close()
        self._ledger.close()
