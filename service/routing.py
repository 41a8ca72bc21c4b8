"""Which version answers what: from a reading of the ledger to an immutable table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from monitoring.core.errors import NotFound, NotReady
from monitoring.core.types import ModelState, ModelVersion, Rollout, Stage, Variant
from service.assignment import meets_candidate
from service.engine.classifier import LoadedVersion
from service.engine.work import NO_ROLLOUT, RolloutStep

STANDING_BY = (Stage.AB_TEST, Stage.SHADOW, Stage.APPROVED)


@dataclass(frozen=True)
class Reading:
    """What the ledger said, at one moment, about what should serve."""

    states: tuple[ModelState, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    versions: Mapping[str, ModelVersion] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Who answers one request, in which part, and who gets a silent copy."""

    target: LoadedVersion
    variant: Variant
    step: RolloutStep
    shadow: LoadedVersion | None = None


@dataclass(frozen=True)
class Route:
    """How one model is served; `rollout` and `candidate` are both there or both None."""

    champion: LoadedVersion
    rollout: Rollout | None = None
    candidate: LoadedVersion | None = None

    def part(self, unit: str) -> Part:
        """Who answers the assignment unit `unit`."""
        if self.rollout is None or self.candidate is None:
            return Part(self.champion, Variant.PRODUCTION, NO_ROLLOUT)
        step = RolloutStep(self.rollout.id, self.rollout.step, self.rollout.share)
        if self.rollout.stage is Stage.SHADOW:
            return Part(self.champion, Variant.PRODUCTION, step, shadow=self.candidate)
        if meets_candidate(unit, self.rollout.salt, self.rollout.share):
            return Part(self.candidate, Variant.CANDIDATE, step)
        return Part(self.champion, Variant.PRODUCTION, step)

    def pinned(self, version: str) -> Part | None:
        """Who answers callers who insist on this version number; None where it neither serves nor is tried.

        Outside of the rollout: a caller who chose the version is no evidence of a random split.
        """
        for target, _, _ in self.shares():
            if version == str(target.version.number):
                return Part(target, Variant.PRODUCTION if target is self.champion else Variant.CANDIDATE, NO_ROLLOUT)
        return None

    def shares(self) -> list[tuple[LoadedVersion, Variant, float]]:
        """The share of the answers that callers get from each version; a shadow's is 0."""
        if self.rollout is None or self.candidate is None:
            return [(self.champion, Variant.PRODUCTION, 1.0)]
        if self.rollout.stage is Stage.SHADOW:
            return [(self.champion, Variant.PRODUCTION, 1.0), (self.candidate, Variant.SHADOW, 0.0)]
        share = self.rollout.share
        return [(self.champion, Variant.PRODUCTION, 1.0 - share), (self.candidate, Variant.CANDIDATE, share)]


@dataclass(frozen=True)
class RoutingTable:
    """All models: those that are served, and for the others the reason why they are not.

    Of the latter, `loading` are on their way and `broken` could not be loaded; the rest have nothing in production.
    """

    routes: Mapping[str, Route] = field(default_factory=dict)
    unserved: Mapping[str, str] = field(default_factory=dict)
    loading: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()

    @property
    def ready(self) -> bool:
        """Nothing is on its way, and not all is broken: one bad bundle must not take the other models' replica away."""
        return not self.loading and (bool(self.routes) or not self.broken)

    def route(self, model: str) -> Route:
        """How `model` is served. Raises NotFound, naming the models there are, or NotReady with the reason."""
        route = self.routes.get(model)
        if route is not None:
            return route
        if model in self.unserved:
            raise NotReady(f"model {model!r} cannot answer: {self.unserved[model]}", field="model")
        known = ", ".join(sorted({*self.routes, *self.unserved})) or "none yet"
        raise NotFound(f"model {model!r} does not exist (known: {known})", field="model")


def wanted(reading: Reading, now: datetime) -> list[ModelVersion]:
    """Versions that should be in memory, the most urgent first: champions, candidates, then those to fall back to."""
    champions = [state.production for state in reading.states]
    candidates = [
        version.id
        for stage in STANDING_BY
        for version in sorted(reading.versions.values(), key=lambda version: version.id)
        if version.stage is stage
    ]
    previous = [state.previous for state in reading.states if state.watch_until is not None and now < state.watch_until]
    ids = dict.fromkeys(version for version in [*champions, *candidates, *previous] if version is not None)
    return [reading.versions[version] for version in ids if version in reading.versions]


def route_all(
    reading: Reading, loaded: Mapping[str, LoadedVersion], faults: Mapping[str, str], current: RoutingTable
) -> RoutingTable:
    """The table for this reading with what is loaded; a champion serves on until its successor is loaded."""
    routes: dict[str, Route] = {}
    unserved: dict[str, str] = {}
    loading, broken = set(), set()
    for state in reading.states:
        champion = _champion(state, loaded, current)
        if champion is not None:
            routes[state.model] = _route(champion, reading, loaded)
        elif state.production is None:
            unserved[state.model] = "it has no version in production; `leeway candidates` lists what waits for approval"
        elif state.production in faults:
            unserved[state.model] = faults[state.production]
            broken.add(state.model)
        else:
            unserved[state.model] = "its version in production is being loaded, try again in a second"
            loading.add(state.model)
    return RoutingTable(routes, unserved, frozenset(loading), frozenset(broken))


def _champion(state: ModelState, loaded: Mapping[str, LoadedVersion], current: RoutingTable) -> LoadedVersion | None:
    if state.production is None:
        return None
    serving = current.routes.get(state.model)
    return loaded.get(state.production) or (serving.champion if serving else None)


def _route(champion: LoadedVersion, reading: Reading, loaded: Mapping[str, LoadedVersion]) -> Route:
    """A rollout is in force only where both of its versions are ready; else the champion answers outside of it."""
    for rollout in reading.rollouts:
        candidate = loaded.get(rollout.candidate)
        if rollout.champion == champion.id and candidate is not None:
            return Route(champion, rollout, candidate)
    return Route(champion)
