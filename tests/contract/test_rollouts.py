"""From shadow to champion and back: one transaction a step, refused to whoever acts on an old reading."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from monitoring.core.errors import Conflict, NotFound
from monitoring.core.ledger import audit, rollout_evidence, rollouts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import ModelVersion, RetrainCause, Rollout, RolloutPhase, Stage
from tests.contract.people import NOON, approve, candidate, champion, in_shadow, promote
from tests.contract.race import race
from tests.contract.test_database import everything
from tests.exposures import exposure

HOUR = timedelta(hours=1)
Act = Callable[[Connection, Rollout], object]


def advance(connection: Connection, rollout: Rollout, step: int = 0, share: float = 0.1) -> Rollout:
    return rollouts.advance(connection, rollout, step=step, share=share, reason="no harm", now=NOON + HOUR)


def pause(connection: Connection, rollout: Rollout) -> Rollout:
    return rollouts.pause(connection, rollout, reason="unsure", now=NOON + HOUR)


def resume(connection: Connection, rollout: Rollout) -> Rollout:
    return rollouts.resume(connection, rollout, actor="ada", reason="go on", now=NOON + 2 * HOUR)


def abort(connection: Connection, rollout: Rollout) -> Rollout:
    return rollouts.abort(connection, rollout, actor="ada", reason="worse", now=NOON + HOUR)


def restore(connection: Connection) -> ModelVersion:
    return rollouts.restore_previous(connection, "support", actor="ada", reason="complaints", now=NOON + HOUR)


def stage(connection: Connection, version: str) -> Stage:
    return versions.get(connection, version).stage


@pytest.fixture
def shadow(ledger: Ledger) -> Rollout:
    """A candidate in shadow beside its champion."""
    with ledger.begin() as connection:
        champion(connection)
        return in_shadow(connection)


def test_a_rollout_begins_in_shadow_without_traffic(ledger: Ledger, shadow: Rollout) -> None:
    assert (shadow.phase, shadow.stage, shadow.step, shadow.share) == (RolloutPhase.RUNNING, Stage.SHADOW, -1, 0.0)
    with ledger.read() as connection:
        assert rollouts.get(connection, shadow.id) == shadow
        assert rollouts.open_rollout(connection, "support") == shadow
        assert rollouts.find(connection, model="support") == [shadow]
        assert rollouts.find(connection, model="another") == []
        assert stage(connection, shadow.candidate) is Stage.SHADOW
        with pytest.raises(NotFound):
            rollouts.get(connection, "absent")


def test_a_model_has_one_rollout_at_a_time(ledger: Ledger, shadow: Rollout) -> None:
    with ledger.begin() as connection:
        second = approve(connection, candidate(connection))
    with pytest.raises(Conflict, match="has a rollout under way"), ledger.begin() as connection:
        rollouts.start(connection, second, salt="salt", now=NOON)
    with ledger.begin() as connection:
        abort(connection, shadow)
        assert rollouts.start(connection, second, salt="salt", now=NOON).candidate == second.id


def test_a_model_without_a_champion_has_nothing_to_compare_with(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        first, second = candidate(connection), candidate(connection)
        approve(connection, first)
        again = approve(connection, second)
    assert again.stage is Stage.APPROVED
    with ledger.begin() as connection, pytest.raises(Conflict):
        rollouts.start(connection, versions.get(connection, first.id), salt="salt", now=NOON)


def test_steps_carry_the_share_and_each_reading_a_fence(ledger: Ledger, shadow: Rollout) -> None:
    with ledger.begin() as connection:
        first = advance(connection, shadow, 0, 0.1)
        second = advance(connection, first, 1, 0.5)
        assert stage(connection, shadow.candidate) is Stage.AB_TEST
        kept = rollouts.record_analysis(connection, second, {"difference": 0.01}, "waiting for labels")
    assert [r.share for r in (first, second, kept)] == [0.1, 0.5, 0.5]
    assert [r.fence for r in (shadow, first, second, kept)] == [1, 2, 3, 4]
    assert second.step_started_at == NOON + HOUR
    assert (kept.analysis, kept.reason) == ({"difference": 0.01}, "waiting for labels")


def test_a_promotion_changes_champion_and_keeps_the_old_one_warm(ledger: Ledger, shadow: Rollout) -> None:
    with ledger.begin() as connection:
        ended = promote(connection, advance(connection, shadow))
        state = versions.model_state(connection, "support")
        assert (state.production, state.previous) == (shadow.candidate, shadow.champion)
        assert state.watch_until == NOON + 72 * HOUR
        assert stage(connection, shadow.candidate) is Stage.PRODUCTION
        assert stage(connection, shadow.champion) is Stage.ARCHIVED
        assert rollouts.open_rollouts(connection) == []
    assert (ended.phase, ended.share, ended.ended_at) == (RolloutPhase.SUCCESSFUL, 1.0, NOON)


def test_an_abort_gives_all_traffic_back(ledger: Ledger, shadow: Rollout) -> None:
    with ledger.begin() as connection:
        ended = abort(connection, advance(connection, shadow))
        assert stage(connection, shadow.candidate) is Stage.ROLLED_BACK
        assert versions.model_state(connection, "support").production == shadow.champion
        assert rollouts.count_ended(connection) == {("support", RolloutPhase.FAILED): 1}
    assert (ended.phase, ended.share, ended.ended_at) == (RolloutPhase.FAILED, 0.0, NOON + HOUR)


def test_a_paused_rollout_waits_for_a_person_and_gets_a_new_deadline(ledger: Ledger, shadow: Rollout) -> None:
    with ledger.begin() as connection:
        running = advance(connection, shadow)
        with pytest.raises(Conflict, match="not paused"):
            resume(connection, running)
        paused = pause(connection, running)
        assert (paused.phase, paused.share) == (RolloutPhase.INCONCLUSIVE, running.share)
        with pytest.raises(Conflict, match="cannot become inconclusive"):
            pause(connection, paused)
        resumed = resume(connection, paused)
    assert (resumed.phase, resumed.step_started_at) == (RolloutPhase.RUNNING, NOON + 2 * HOUR)


@pytest.mark.parametrize("act", [advance, pause, abort, promote], ids=lambda act: act.__name__)
def test_a_stale_fence_is_refused_and_nothing_changes(ledger: Ledger, shadow: Rollout, act: Act) -> None:
    with ledger.begin() as connection:
        rollouts.record_analysis(connection, shadow, {}, "somebody else was here")
    before = everything(ledger)
    with pytest.raises(Conflict, match="has moved on"), ledger.begin() as connection:
        act(connection, shadow)
    assert everything(ledger) == before


@pytest.mark.parametrize("act", [advance, pause, abort, promote], ids=lambda act: act.__name__)
@pytest.mark.parametrize("end", [abort, promote], ids=lambda act: act.__name__)
def test_what_has_ended_stays_ended(ledger: Ledger, shadow: Rollout, end: Act, act: Act) -> None:
    with ledger.begin() as connection:
        end(connection, shadow)
        ended = rollouts.get(connection, shadow.id)
    before = everything(ledger)
    with pytest.raises(Conflict), ledger.begin() as connection:
        act(connection, ended)
    assert everything(ledger) == before


@pytest.mark.parametrize("act", [advance, pause, abort, promote], ids=lambda act: act.__name__)
def test_an_exception_after_a_step_undoes_all_of_it(ledger: Ledger, shadow: Rollout, act: Act) -> None:
    before = everything(ledger)

    def die_half_way() -> None:
        with ledger.begin() as connection:
            act(connection, shadow)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        die_half_way()
    assert everything(ledger) == before


def test_each_step_has_its_event(ledger: Ledger, shadow: Rollout) -> None:
    with ledger.begin() as connection:
        promote(connection, resume(connection, pause(connection, advance(connection, shadow))))
        restore(connection)
        told = [event.action for event in audit.events(connection, subject="support")]
        assert told == ["rollout:promote", "rollout:resume", "rollout:pause", "rollout:step"]
        back = audit.events(connection, subject="support@1")[0]
        assert (back.action, back.actor, back.reason) == ("stage:production", "ada", "complaints")
        assert audit.first_broken_link(connection) is None


def test_the_previous_version_serves_again_at_once(ledger: Ledger, shadow: Rollout) -> None:
    with ledger.begin() as connection:
        promote(connection, shadow)
        assert restore(connection).id == shadow.champion
        state = versions.model_state(connection, "support")
        assert (state.production, state.previous, state.watch_until) == (shadow.champion, None, None)
        assert stage(connection, shadow.candidate) is Stage.ROLLED_BACK
        with pytest.raises(Conflict, match="no previous version"):
            restore(connection)


def test_a_rollback_ends_the_rollout_that_compares_with_the_fallen_champion(ledger: Ledger, shadow: Rollout) -> None:
    with ledger.begin() as connection:
        promote(connection, shadow)
        next_rollout = in_shadow(connection)
        restore(connection)
        assert rollouts.get(connection, next_rollout.id).phase is RolloutPhase.FAILED
        assert stage(connection, next_rollout.candidate) is Stage.ROLLED_BACK


def test_a_promotion_sets_aside_what_was_measured_against_the_old_champion(ledger: Ledger, shadow: Rollout) -> None:
    with ledger.begin() as connection:
        waiting = candidate(connection, parent=shadow.champion)
        approved = approve(connection, candidate(connection, parent=shadow.champion))
        alone = candidate(connection)  # compared with no champion, so its evidence holds as well as before
        promote(connection, shadow)
        assert stage(connection, waiting.id) is stage(connection, approved.id) is Stage.REJECTED
        assert stage(connection, alone.id) is Stage.AWAITING_APPROVAL
        [why, *_] = audit.events(connection, subject=waiting.name)
        assert why.reason == ("measured against support@1, but support@2 serves now: retrain `support` to measure anew")
        next_one = candidate(connection, parent=shadow.candidate)
        restore(connection)
        assert stage(connection, next_one.id) is Stage.REJECTED


def test_a_recalibration_that_comes_or_goes_leaves_alone_what_was_retrained(ledger: Ledger) -> None:
    """It answers with the same labels, by which retrained versions are compared; another temperature is too late."""
    calibration = RetrainCause.CALIBRATION
    with ledger.begin() as connection:
        first = champion(connection)
        waiting = candidate(connection, parent=first.id)
        approved = approve(connection, candidate(connection, parent=first.id))
        too_late = candidate(connection, parent=first.id, cause=calibration)
        made = approve(connection, candidate(connection, parent=first.id, cause=calibration))
        promote(connection, rollouts.start(connection, made, salt="salt", now=NOON))
        assert stage(connection, waiting.id) is Stage.AWAITING_APPROVAL
        assert stage(connection, approved.id) is Stage.APPROVED
        assert stage(connection, too_late.id) is Stage.REJECTED
        [why, *_] = audit.events(connection, subject=too_late.name)
        assert why.reason == (
            "measured against support@1, but support@5 serves now: recalibrate `support` to measure anew"
        )
        against_it = candidate(connection, parent=made.id)
        restore(connection)
        assert stage(connection, against_it.id) is stage(connection, waiting.id) is Stage.AWAITING_APPROVAL
        promote(connection, rollouts.start(connection, approved, salt="salt", now=NOON))
        assert stage(connection, against_it.id) is stage(connection, waiting.id) is Stage.REJECTED


def test_an_approval_that_outlived_its_rival_never_begins_a_rollout(ledger: Ledger, shadow: Rollout) -> None:
    """Whoever wins the race: the approval comes first and is set aside, or comes too late and is refused."""
    with ledger.begin() as connection:
        waiting = candidate(connection, parent=shadow.champion)

    def act(number: int) -> object:
        with ledger.begin() as connection:
            return approve(connection, waiting) if number else promote(connection, shadow)

    race(act, 2)
    with ledger.read() as connection:
        assert stage(connection, waiting.id) is Stage.REJECTED


def test_of_two_that_promote_at_once_exactly_one_wins(ledger: Ledger, shadow: Rollout) -> None:
    def win(number: int) -> Rollout:
        with ledger.begin() as connection:
            return promote(connection, shadow, actor=f"runner {number}")

    ended = race(win, 2)
    assert sorted(type(item).__name__ for item in ended) == ["Conflict", "Rollout"]
    with ledger.read() as connection:
        assert [version.id for version in versions.find(connection, stages={Stage.PRODUCTION})] == [shadow.candidate]
        assert audit.first_broken_link(connection) is None


def test_promoting_aborting_and_rolling_back_at_once_never_blocks_for_good(ledger: Ledger) -> None:
    for _ in range(5):
        with ledger.begin() as connection:
            if not versions.model_states(connection):
                champion(connection)
            promote(connection, in_shadow(connection))
            rollout = in_shadow(connection)

        def act(number: int, seen: Rollout = rollout) -> None:
            with ledger.begin() as connection:
                [promote, abort, pause, lambda connection, _: restore(connection)][number](connection, seen)

        results = race(act, 4)
        assert None in results
        assert all(item is None or isinstance(item, Conflict) for item in results)
        with ledger.read() as connection:
            [serving] = versions.find(connection, stages={Stage.PRODUCTION})
            assert versions.model_state(connection, "support").production == serving.id
            under_way = rollouts.open_rollout(connection, "support")
            assert audit.first_broken_link(connection) is None
        if under_way is not None:
            with ledger.begin() as connection:
                abort(connection, under_way)


def test_exposures_add_up_and_the_first_sighting_fixes_the_arm(ledger: Ledger, shadow: Rollout) -> None:
    with ledger.begin() as connection:
        first = exposure(shadow, "a", candidate=True, share=0.1, errors=1)
        later = exposure(shadow, "a", share=0.5, at=NOON + HOUR, requests=3, slow=2)
        rollout_evidence.add_exposures(connection, [exposure(shadow, "b", at=NOON + HOUR), first])
        rollout_evidence.add_exposures(connection, [later])
        [one, other] = rollout_evidence.find_exposures(connection, shadow.id)
    assert (one.unit, one.candidate, one.share, one.first_seen) == ("a", True, 0.1, NOON)
    assert (one.requests, one.errors, one.slow) == (4, 1, 2)
    assert (other.unit, other.candidate, other.requests) == ("b", False, 1)
