"""A whole serving process in the test's own: real ledger, real bundles, real HTTP on a free port."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitoring.core import spool
from monitoring.core.bundle import Bundle
from monitoring.core.cli import open_ledger
from monitoring.core.ledger import access, rollouts, versions
from monitoring.core.runtime import ClassifierRuntime, Encoded
from monitoring.core.settings import Settings, load_settings
from monitoring.core.signals import Predictions
from monitoring.core.types import ModelVersion, Role, Rollout, utc_now
from service.app import Service
from service.context import Context
from service.server import HttpServer
from tests.approving import approve
from tests.bundles import make_bundle

NEVER = 86_400.0  # the test calls the loops itself


@dataclass
class Gate:
    """Holds model calls back, once closed, until it is opened. `broken` versions fail instead of answering."""

    open: threading.Event = field(default_factory=threading.Event)
    reached: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    broken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.open.set()

    def close(self) -> None:
        """From now on model calls wait."""
        self.reached = threading.Semaphore(0)
        self.open.clear()

    def runtime(self, bundle: Bundle) -> ClassifierRuntime:
        """The real runtime, behind this gate."""
        return _GatedRuntime(bundle, self)


class _GatedRuntime(ClassifierRuntime):
    def __init__(self, bundle: Bundle, gate: Gate) -> None:
        super().__init__(bundle)
        self._gate = gate

    def run(self, batch: Sequence[Encoded]) -> Predictions:
        self._gate.reached.release()
        assert self._gate.open.wait(timeout=30)
        if self.bundle.hash in self._gate.broken:
            raise RuntimeError("the test broke this model")
        return super().run(batch)


@dataclass
class Running:
    """A service that runs, and what a test does with it."""

    settings: Settings
    service: Service
    server: HttpServer
    http: httpx.Client
    gate: Gate

    @property
    def context(self) -> Context:
        """The service's parts."""
        return self.service.context

    def key(self, *roles: Role, name: str = "tester") -> str:
        """A new API key."""
        with self.context.ledger.begin() as connection:
            return access.add_key(connection, name=name, roles=roles, actor="test", now=utc_now())

    def register(
        self, bundle: Bundle, *, approved: bool = True, evidence: Mapping[str, Any] | None = None
    ) -> ModelVersion:
        """Register a bundle and approve it; a model's first goes into production."""
        version = self.context.registry.add(bundle, evidence=evidence or {}, actor="test", gates_passed=True)
        return approve(self.context.ledger, version.name) if approved else version

    def start_rollout(self, version: ModelVersion, *, share: float | None = None) -> Rollout:
        """Into shadow, or to a share of the traffic."""
        with self.context.ledger.begin() as connection:
            version = versions.get(connection, version.id)
            rollout = rollouts.start(connection, version, salt="salt", now=utc_now())
            if share is not None:
                rollout = rollouts.advance(connection, rollout, step=0, share=share, reason="test", now=utc_now())
        return rollout

    def predict(self, *texts: str, model: str = "support", **more: Any) -> httpx.Response:
        """Ask over HTTP."""
        return self.http.post(f"/v1/models/{model}/predict", json={"inputs": texts, **more})

    def rows(self) -> list[dict[str, Any]]:
        """What the spool holds."""
        frames = (
            frame for folder in spool.writers(self.settings.spool_dir) for frame in spool.read_frames(folder, after=0)
        )
        return [row for frame in frames for row in frame.rows]

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value in /metrics' registry; 0 if it is not there."""
        return self.context.metrics.registry.get_sample_value(name, labels) or 0.0


Start = Callable[..., Running]


def bytes_tensor(*texts: str) -> bytes:
    """A BYTES tensor as the Open Inference Protocol's binary form has it."""
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


@pytest.fixture(scope="session")
def champion_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A good model."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "champion")


@pytest.fixture(scope="session")
def candidate_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One that takes billing for delivery."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "candidate", mistakes={"billing": "delivery"}, seed=8)


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Start a service: `start(server={...}, log={...})`; stopped after the test."""
    running: list[Running] = []

    def _start(**sections: dict[str, Any]) -> Running:
        server = {"port": 0, "threads": 2, "reconcile_seconds": NEVER} | sections.pop("server", {})
        settings = load_settings(home=home, server=server, rollout={"controller_seconds": NEVER}, **sections)
        open_ledger(settings, create=True).close()
        gate = Gate()
        service = Service.create(settings, runtime=gate.runtime)
        http = HttpServer(service.app, host="127.0.0.1", port=0, drain_seconds=10, on_end=lambda: None)
        service.start()
        http.start()
        one = Running(settings, service, http, httpx.Client(base_url=f"http://127.0.0.1:{http.port}", timeout=30), gate)
        running.append(one)
        return one

    yield _start
    for one in running:
        one.gate.open.set()
        one.http.close()
        one.server.stop()
        one.service.stop()


@pytest.fixture
def support(start: Start, champion_bundle: Bundle) -> Running:
    """A running service with the model `support` in production, and a key that may do everything."""
    return with_champion(start(), champion_bundle)


def with_champion(running: Running, bundle: Bundle) -> Running:
    """Put a first version into production and log in."""
    running.register(bundle)
    running.context.serving.reconcile()
    running.http.headers["authorization"] = f"Bearer {running.key(*Role)}"
    return running
