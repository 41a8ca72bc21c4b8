"""A ledger with people and things in it: versions with evidence, rollouts with exposures and labels, alerts, reports.

    world = World.create(tmp_path, clock)
    champion = world.champion()
    candidate = world.candidate()

Everything goes through the ledger's own functions; bundles are names only, so nothing here can serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from fastapi import APIRouter, FastAPI

from monitoring.core.ids import new_id
from monitoring.core.ledger import (
    access,
    alerts,
    approvals,
    labels,
    replicas,
    rollout_evidence,
    rollouts,
    verdicts,
    versions,
)
from monitoring.core.ledger.database import Ledger
from monitoring.core.ledger.rollout_evidence import Exposure
from monitoring.core.registry import Registry
from monitoring.core.settings import Settings
from monitoring.core.storage import Storage
from monitoring.core.types import (
    Alert,
    Clock,
    ModelVersion,
    Outcome,
    Role,
    Rollout,
    Severity,
    Stage,
    Verdict,
)
from service.auth import Keyring
from service.context import Context
from service.routes import errors
from tests.evidence import drift_report, evidence_of, lineage
from tests.exposures import outcome

MODEL = "support"
LABELS = ("account", "billing", "delivery")


@dataclass(frozen=True)
class World:
    """A ledger and the clock it lives by."""

    ledger: Ledger
    clock: Clock

    @classmethod
    def create(cls, folder: Path, clock: Clock) -> World:
        """An empty ledger in `folder`, where `leeway` would have it."""
        path = folder / "ledger.db"
        path.write_bytes(_empty_ledger())
        return cls(Ledger.open(f"sqlite:///{path}"), clock)

    def key(self, name: str, *roles: Role) -> str:
        """A new API key."""
        with self.ledger.begin() as connection:
            return access.add_key(connection, name=name, roles=roles, actor="init", now=self.clock())

    def candidate(
        self,
        *,
        model: str = MODEL,
        labels: Sequence[str] = LABELS,
        evidence: Mapping[str, Any] | None = None,
        origin: Mapping[str, Any] | None = None,
        parent: str | None = None,
    ) -> ModelVersion:
        """A version that waits for approval; `parent` is the champion that its gates compared it with.

        `origin`: what else its lineage says.
        """
        with self.ledger.begin() as connection:
            version = versions.add(
                connection,
                model=model,
                bundle_uri=f"bundles/{new_id()}",
                bundle_hash=(new_id() + new_id()).replace("-", ""),
                labels=labels,
                lineage=lineage() | {"parent": parent} | dict(origin or {}),
                evidence=evidence_of() if evidence is None else evidence,
                actor="worker",
                now=self.clock(),
            )
            return versions.move(
                connection,
                version,
                Stage.AWAITING_APPROVAL,
                actor="worker",
                reason="all gates passed",
                now=self.clock(),
            )

    def champion(self, *, model: str = MODEL) -> ModelVersion:
        """The model's first version, in production."""
        return self.approve(self.candidate(model=model))

    def approve(self, version: ModelVersion, *, valid_for: timedelta = timedelta(hours=72)) -> ModelVersion:
        """Approved by `ada`."""
        with self.ledger.begin() as connection:
            return approvals.approve(
                connection,
                versions.get(connection, version.id),
                person="ada",
                reason="looks good",
                bundle_hash=None,
                valid_for=valid_for,
                now=self.clock(),
            )

    def load(self, *loaded: ModelVersion, replica: str = "replica-1") -> None:
        """A serving process says what it has loaded."""
        with self.ledger.begin() as connection:
            replicas.report(connection, replica, loaded=[version.id for version in loaded], now=self.clock())

    def rollout(self, candidate: ModelVersion, *, share: float | None = None) -> Rollout:
        """An approved candidate in shadow, or at a share of the traffic."""
        with self.ledger.begin() as connection:
            found = rollouts.start(
                connection, versions.get(connection, candidate.id), salt="5be1f0a2c9d3e874", now=self.clock()
            )
            if share is not None:
                found = rollouts.advance(
                    connection, found, step=0, share=share, reason="no harm in shadow", now=self.clock()
                )
            return found

    def version(self, reference: str) -> ModelVersion:
        """As the ledger has it now."""
        with self.ledger.read() as connection:
            return versions.get(connection, reference)

    def read_rollout(self, rollout: Rollout) -> Rollout:
        """As the ledger has it now."""
        with self.ledger.read() as connection:
            return rollouts.get(connection, rollout.id)

    def add_evidence(self, exposures: Sequence[Exposure], outcomes: Sequence[Outcome]) -> None:
        """What a monitor would have joined."""
        with self.ledger.begin() as connection:
            rollout_evidence.add_exposures(connection, exposures)
            labels.add_outcomes(connection, outcomes)

    def report(self, version: ModelVersion, **changes: Any) -> str:
        """A drift report."""
        with self.ledger.begin() as connection:
            return verdicts.save_report(connection, drift_report(version, self.clock(), **changes))

    def alert(self, version: ModelVersion, *, name: str = "drift") -> Alert:
        """An open episode."""
        with self.ledger.begin() as connection:
            fired = alerts.fire(
                connection,
                model=version.model,
                version=version.id,
                name=name,
                severity=Severity.CRITICAL,
                summary=f"{version.name}: the traffic has changed, seen in similarity after 1841 predictions",
                detail={"version": version.id, "n_seen": 1841},
                now=self.clock(),
            )
        assert fired is not None
        return fired


@cache
def _empty_ledger() -> bytes:
    """The file that the migrations make: once for all tests of a process."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        ledger = Ledger.open(f"sqlite:///{path}")
        ledger.upgrade()
        ledger.close()
        return path.read_bytes()


def application(world: World, *routers: APIRouter) -> FastAPI:
    """An application around the ledger alone: for routes that neither infer nor count."""
    nothing = cast(Any, None)
    app = FastAPI()
    app.state.context = Context(
        settings=Settings(),
        ledger=world.ledger,
        registry=Registry(world.ledger, Storage("nowhere"), Path("nowhere"), world.clock),
        keyring=Keyring(world.ledger),
        inference=nothing,
        serving=nothing,
        metrics=nothing,
        clock=world.clock,
    )
    errors.install(app)
    for router in routers:
        app.include_router(router)
    return app


def furnish(world: World) -> dict[str, Any]:
    """A scene to look at: a champion that drifts, its candidate waiting, another model in a rollout."""
    champion = world.champion()
    world.report(champion, verdict=Verdict.STABLE, reason="no signal moved beyond what is tolerated", effect=0.03)
    report = world.report(champion)
    alert = world.alert(champion)
    candidate = world.candidate(labels=(*LABELS, "gift_card"))
    world.champion(model="triage")
    rollout = world.rollout(world.approve(world.candidate(model="triage")), share=0.25)
    said = [("gift_card", number) for number in range(20)] + [("warranty", number) for number in range(3)]
    world.add_evidence([], [outcome(rollout, f"{label}{number}", label=label) for label, number in said])
    return {"champion": champion, "candidate": candidate, "rollout": rollout, "report": report, "alert": alert}
