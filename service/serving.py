"""What should serve, does: a reconcile loop from the ledger to an immutable routing table, swapped whole.

A pass reads the ledger, publishes a table of what is loaded already, then loads what is still missing, the most urgent
first, and publishes again. Old versions are simply let go: texts in flight hold theirs until they are answered.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from monitoring.core.errors import Conflict, LeewayError, NotFound, NotReady
from monitoring.core.ledger import replicas, rollouts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.registry import Registry
from monitoring.core.settings import ServerSettings
from monitoring.core.types import Clock, ModelVersion, Stage
from service.engine.classifier import LoadedVersion, RuntimeFactory, load_version
from service.routing import STANDING_BY, Reading, RoutingTable, route_all, wanted

log = logging.getLogger(__name__)

RETRY_AFTER = timedelta(seconds=30)
ANSWERING = frozenset({Stage.PRODUCTION, Stage.SHADOW, Stage.AB_TEST})
REPORT_EVERY = timedelta(seconds=5)


class Serving:
    """Keeps the right versions in memory and the routing table true."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        registry: Registry,
        settings: ServerSettings,
        replica: str,
        runtime: RuntimeFactory,
        clock: Clock,
    ) -> None:
        self.table = RoutingTable()
        self.ledger_fault: str | None = None
        self.read_once = False
        self._ledger = ledger
        self._registry = registry
        self._settings = settings
        self._replica = replica
        self._runtime = runtime
        self._clock = clock
        self._loaded: Mapping[str, LoadedVersion] = {}
        self._faults: dict[str, tuple[str, datetime]] = {}
        self._reported: tuple[frozenset[str], datetime] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)

    @property
    def loaded(self) -> Mapping[str, LoadedVersion]:
        """Versions in memory and warm, by id."""
        return self._loaded

    @property
    def faults(self) -> Mapping[str, str]:
        """Versions that should be in memory but could not be loaded: id → reason."""
        return {version: reason for version, (reason, _) in self._faults.copy().items()}

    def start(self) -> None:
        """Load what should serve, then keep reconciling in a thread."""
        self._pass()
        self._thread.start()

    def stop(self) -> None:
        """End, and leave the list of live replicas."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        try:
            with self._ledger.begin() as connection:
                replicas.leave(connection, self._replica)
        except SQLAlchemyError as error:
            log.warning("the ledger was away while stopping: %s", error)

    def why_not(self, model: str, version: str) -> LeewayError:
        """Why this version of `model` does not answer, as the ledger has it; blocks. Raises SQLAlchemyError."""
        try:
            with self._ledger.read() as connection:
                found = versions.get(connection, f"{model}@{version}")
        except NotFound as error:
            return error
        if found.id in self.faults:
            return NotReady(f"{found.name} cannot answer: {self.faults[found.id]}", field="version")
        if found.stage in ANSWERING:
            return NotReady(f"{found.name} is being loaded, try again in a second", field="version")
        return Conflict(
            f"{found.name} is {found.stage}: only a model's version in production and the candidate of its rollout "
            f"answer; /v2/models/{model} lists them",
            field="version",
        )

    def reconcile(self) -> None:
        """One pass: read, publish, load what is missing. Raises SQLAlchemyError while the ledger is away."""
        now = self._clock()
        with self._ledger.read() as connection:
            reading = read_ledger(connection)
        should = wanted(reading, now)
        self._faults = {version.id: self._faults[version.id] for version in should if version.id in self._faults}
        self._publish(reading, should)
        for version in should:
            if version.id not in self._loaded and self._may_try(version, now):
                self._load(version, now)
                self._publish(reading, should)
        self._report(now)

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.reconcile_seconds):
            self._pass()

    def _pass(self) -> None:
        """Reconcile; whatever goes wrong, what serves goes on serving."""
        try:
            self.reconcile()
            self.read_once, fault = True, None
        except SQLAlchemyError as error:
            fault = f"the ledger cannot be read ({type(error).__name__}); the last known versions serve on"
        except Exception as error:
            log.exception("reconciling failed")
            fault = f"reconciling failed ({type(error).__name__}); the last known versions serve on"
        if fault != self.ledger_fault:
            log.warning("serving: %s", fault or "the ledger is read")
        self.ledger_fault = fault

    def _publish(self, reading: Reading, should: list[ModelVersion]) -> None:
        """Swap in the new table, then let go of what neither serves nor should."""
        before, self.table = self.table, route_all(reading, self._loaded, self.faults, self.table)
        if describe(self.table) != describe(before):
            log.info("serving %s", describe(self.table))
        needed = {version.id for version in should} | {route.champion.id for route in self.table.routes.values()}
        released = self._loaded.keys() - needed
        if released:
            log.info("released %s", ", ".join(sorted(self._loaded[version].name for version in released)))
            self._loaded = {key: version for key, version in self._loaded.items() if key in needed}

    def _may_try(self, version: ModelVersion, now: datetime) -> bool:
        failed = self._faults.get(version.id)
        return failed is None or now >= failed[1] + RETRY_AFTER

    def _load(self, version: ModelVersion, now: datetime) -> None:
        try:
            bundle = self._registry.fetch(version)
            loaded = load_version(
                version,
                bundle,
                max_batch=self._settings.max_batch,
                max_batch_tokens=self._settings.max_batch_tokens,
                runtime=self._runtime,
            )
        except Exception as error:  # storage drivers raise what they like, and the other versions must serve on
            reason = error.message if isinstance(error, LeewayError) else f"{type(error).__name__}: {error}"
            log.error("%s (%s) CANNOT BE LOADED, the others serve on: %s", version.name, version.stage, reason)
            self._faults[version.id] = (f"{version.name} could not be loaded: {reason}", now)
            return
        self._faults.pop(version.id, None)
        self._loaded = {**self._loaded, version.id: loaded}
        log.info("loaded and warmed %s (%s)", version.name, version.stage)

    def _report(self, now: datetime) -> None:
        """Tell the ledger what is ready here: at every change, and often enough to count as alive."""
        ready = frozenset(self._loaded)
        if self._reported is not None and self._reported[0] == ready and now < self._reported[1] + REPORT_EVERY:
            return
        with self._ledger.begin() as connection:
            replicas.report(connection, self._replica, loaded=ready, now=now)
        self._reported = (ready, now)


def read_ledger(connection: Connection) -> Reading:
    """Everything that decides about what serves, as of one moment."""
    states = versions.model_states(connection)
    found = {version.id: version for version in versions.find(connection, stages=STANDING_BY)}
    for state in states:
        for reference in (state.production, state.previous):
            if reference is not None and reference not in found:
                found[reference] = versions.get(connection, reference)
    return Reading(tuple(states), tuple(rollouts.open_rollouts(connection)), found)


def describe(table: RoutingTable) -> str:
    """The table in one line, for the log."""
    shares = [share for route in table.routes.values() for share in route.shares()]
    parts = [f"{target.name} {variant} {share:.0%}" for target, variant, share in shares]
    parts += [f"{model}: not served ({reason})" for model, reason in table.unserved.items()]
    return "; ".join(parts) or "nothing: no model is registered"
