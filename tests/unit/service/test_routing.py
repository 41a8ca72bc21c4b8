"""From a reading of the ledger to who answers: each situation and its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from monitoring.core.errors import NotFound, NotReady
from monitoring.core.types import ModelState, Rollout, RolloutPhase, Stage, Variant
from service.assignment import meets_candidate
from service.engine.classifier import LoadedVersion
from service.engine.work import NO_ROLLOUT, RolloutStep
from service.routing import Part, Reading, Route, RoutingTable, route_all, wanted
from tests.unit.service.works import loaded, version

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
OLD, NEW = loaded(1), loaded(2)
STATE = ModelState("support", production=OLD.id, previous=None, watch_until=None, promoted_at=NOW)
ROLLOUT = Rollout(
    id="rollout",
    model="support",
    candidate=NEW.id,
    champion=OLD.id,
    phase=RolloutPhase.RUNNING,
    stage=Stage.AB_TEST,
    step=1,
    share=0.25,
    salt="salt",
    fence=3,
    reason="",
    analysis={},
    started_at=NOW,
    step_started_at=NOW,
    ended_at=None,
)
EMPTY = RoutingTable()


def _table(
    state: ModelState = STATE,
    *rollouts: Rollout,
    memory: Mapping[str, LoadedVersion] | None = None,
    faults: Mapping[str, str] | None = None,
    current: RoutingTable = EMPTY,
) -> RoutingTable:
    memory = {OLD.id: OLD, NEW.id: NEW} if memory is None else memory
    return route_all(Reading((state,), rollouts), memory, faults or {}, current)


def test_the_champion_answers() -> None:
    part = _table().route("support").part("unit")
    assert (part.target, part.variant, part.step, part.shadow) == (OLD, Variant.PRODUCTION, NO_ROLLOUT, None)


def test_in_shadow_the_champion_answers_and_the_candidate_gets_a_copy() -> None:
    part = _table(STATE, replace(ROLLOUT, stage=Stage.SHADOW, step=-1, share=0.0)).route("support").part("unit")
    assert (part.target, part.variant, part.shadow) == (OLD, Variant.PRODUCTION, NEW)
    assert part.step == RolloutStep("rollout", -1, 0.0)


@pytest.mark.parametrize("phase", [RolloutPhase.RUNNING, RolloutPhase.INCONCLUSIVE])
def test_in_an_ab_test_the_assignment_decides_also_while_it_is_paused(phase: RolloutPhase) -> None:
    route = _table(STATE, replace(ROLLOUT, phase=phase)).route("support")
    for unit in map(str, range(50)):
        part = route.part(unit)
        met = meets_candidate(unit, "salt", 0.25)
        assert (part.target, part.variant) == ((NEW, Variant.CANDIDATE) if met else (OLD, Variant.PRODUCTION))
        assert part.step == RolloutStep("rollout", 1, 0.25)
        assert part.shadow is None


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.AB_TEST])
def test_a_pinned_version_takes_no_part_in_the_rollout(stage: Stage) -> None:
    route = _table(STATE, replace(ROLLOUT, stage=stage)).route("support")
    assert route.pinned("1") == Part(OLD, Variant.PRODUCTION, NO_ROLLOUT)
    assert route.pinned("2") == Part(NEW, Variant.CANDIDATE, NO_ROLLOUT)
    assert route.pinned("3") is None


def test_a_version_that_stands_by_cannot_be_pinned() -> None:
    assert _table().route("support").pinned("2") is None


def test_a_rollout_is_not_in_force_where_its_candidate_is_not_loaded() -> None:
    route = _table(STATE, ROLLOUT, memory={OLD.id: OLD}).route("support")
    assert route == Route(OLD)


def test_a_rollout_against_another_champion_is_not_in_force() -> None:
    assert _table(STATE, replace(ROLLOUT, champion="another")).route("support") == Route(OLD)


def test_a_champion_serves_on_until_its_successor_is_loaded() -> None:
    promoted = replace(STATE, production=NEW.id, previous=OLD.id)
    current = RoutingTable({"support": Route(OLD)})
    assert _table(promoted, memory={OLD.id: OLD}, current=current).route("support") == Route(OLD)
    assert _table(promoted, current=current).route("support") == Route(NEW)


def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match="'supprot' does not exist \\(known: support\\)"):
        _table().route("supprot")
    with pytest.raises(NotFound, match="known: none yet"):
        EMPTY.route("support")


@pytest.mark.parametrize(
    ("state", "faults", "reason", "ready"),
    [
        (replace(STATE, production=None), {}, "no version in production", True),
        (STATE, {}, "being loaded", False),
        (STATE, {OLD.id: "support@1 could not be loaded: cut"}, "support@1 could not be loaded: cut", False),
    ],
)
def test_a_model_that_cannot_answer_says_why(
    state: ModelState, faults: Mapping[str, str], reason: str, ready: bool
) -> None:
    table = _table(state, memory={}, faults=faults)
    with pytest.raises(NotReady, match=reason):
        table.route("support")
    assert table.ready is ready


def test_one_broken_model_does_not_take_the_others_away() -> None:
    other = ModelState("other", production="other-1", previous=None, watch_until=None, promoted_at=NOW)
    table = route_all(Reading((STATE, other)), {OLD.id: OLD}, {"other-1": "cut"}, EMPTY)
    assert table.ready


def test_shares_tell_who_answers_how_much() -> None:
    assert _table().route("support").shares() == [(OLD, Variant.PRODUCTION, 1.0)]
    ab_test = _table(STATE, ROLLOUT).route("support")
    assert ab_test.shares() == [(OLD, Variant.PRODUCTION, 0.75), (NEW, Variant.CANDIDATE, 0.25)]
    shadow = _table(STATE, replace(ROLLOUT, stage=Stage.SHADOW)).route("support")
    assert shadow.shares() == [(OLD, Variant.PRODUCTION, 1.0), (NEW, Variant.SHADOW, 0.0)]


def test_champions_are_wanted_first_then_candidates_then_those_to_fall_back_to() -> None:
    stages = {1: Stage.ARCHIVED, 2: Stage.PRODUCTION, 3: Stage.APPROVED, 4: Stage.AB_TEST}
    found = {f"support-{number}": version(number, stage=stage) for number, stage in stages.items()}
    watched = replace(STATE, production="support-2", previous="support-1", watch_until=NOW + timedelta(hours=1))
    reading = Reading((watched,), (), found)
    assert [one.number for one in wanted(reading, NOW)] == [2, 4, 3, 1]
    assert [one.number for one in wanted(reading, NOW + timedelta(hours=1))] == [2, 4, 3]
