"""Registering and deciding: numbers, stages, and a person's word that binds to what was looked at."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from monitoring.core import tables
from monitoring.core.errors import Conflict, InvalidInput, NotFound
from monitoring.core.ledger import approvals, audit, rollouts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import ModelVersion, Stage
from tests.contract.people import NOON, approve, candidate, champion, in_shadow, promote
from tests.contract.race import race

HOUR = timedelta(hours=1)


def test_versions_of_a_model_are_numbered_and_found_by_id_and_name(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        first, second, other = candidate(connection), candidate(connection), candidate(connection, model="triage")
        assert [version.name for version in (first, second, other)] == ["support@1", "support@2", "triage@1"]
        assert versions.get(connection, "support@2") == versions.get(connection, second.id) == second
        assert versions.find(connection, model="support") == [second, first]
        assert versions.find(connection, stages={Stage.CANDIDATE}) == []
        assert [state.model for state in versions.model_states(connection)] == ["support", "triage"]


@pytest.mark.parametrize(
    "reference", ["", "support", "support@", "support@2", "support@²", "support@-1", "other@1", f"support@{10**30}"]
)
def test_a_version_that_is_not_there_is_named(ledger: Ledger, reference: str) -> None:
    with ledger.begin() as connection:
        candidate(connection)
        with pytest.raises(NotFound, match="does not exist") as caught:
            versions.get(connection, reference)
    assert caught.value.field == "version"


def test_an_unknown_model_is_told_with_those_there_are(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        with pytest.raises(NotFound, match="known: none yet"):
            versions.model_state(connection, "suport")
        candidate(connection)
        with pytest.raises(NotFound, match="known: support"):
            versions.model_state(connection, "suport")


def test_workers_that_register_at_once_get_numbers_of_their_own(ledger: Ledger) -> None:
    def register(_: int) -> int:
        with ledger.begin() as connection:
            return candidate(connection).number

    assert sorted(map(int, race(register, 4))) == [1, 2, 3, 4]  # type: ignore[arg-type]


def test_evidence_against_another_champion_is_not_approved(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        serving = champion(connection)
        fit, late = candidate(connection, parent=serving.id), candidate(connection, parent="of-another-ledger")
        assert versions.outdated(connection, fit) is None
        assert versions.outdated(connection, serving) is None
        with pytest.raises(Conflict, match="measured against of-another-ledger, but support@1 serves now: retrain"):
            approve(connection, late)
        approve(connection, fit)
        assert versions.get(connection, late.id).stage is Stage.AWAITING_APPROVAL


def test_a_move_from_a_stale_reading_is_refused(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        seen = candidate(connection)
        approvals.reject(connection, seen, person="bob", reason="worse", now=NOON)
    with pytest.raises(Conflict, match=r"support@1 is no longer awaiting_approval"), ledger.begin() as connection:
        approve(connection, seen)
    with ledger.read() as connection:
        assert versions.get(connection, seen.id).stage is Stage.REJECTED
        assert len(connection.execute(select(tables.approvals)).all()) == 1


def test_every_move_has_its_event_in_the_same_transaction(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        version = champion(connection)
        told = [(event.action, event.actor) for event in audit.events(connection, subject=version.name)]
    assert told == [
        ("stage:production", "ada"),
        ("stage:approved", "ada"),
        ("stage:awaiting_approval", "worker"),
        ("register", "worker"),
    ]


def test_the_first_version_goes_straight_to_production_and_the_second_does_not(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        first = champion(connection)
        state = versions.model_state(connection, "support")
        assert (first.stage, state.production, state.previous) == (Stage.PRODUCTION, first.id, None)
        assert approve(connection, candidate(connection)).stage is Stage.APPROVED
        assert versions.model_state(connection, "support") == state


def test_of_two_first_versions_approved_at_once_one_serves(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        waiting = [candidate(connection), candidate(connection)]

    def decide(number: int) -> ModelVersion:
        with ledger.begin() as connection:
            return approve(connection, waiting[number])

    decided = race(decide, 2)
    with ledger.read() as connection:
        assert len(versions.find(connection, stages={Stage.PRODUCTION})) == 1
        assert audit.first_broken_link(connection) is None
    assert {item.stage if isinstance(item, ModelVersion) else type(item) for item in decided} <= {
        Stage.PRODUCTION,
        Stage.APPROVED,
        Conflict,
    }


def test_a_second_approval_tells_of_the_first(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        champion(connection)
        approved = approve(connection, candidate(connection))
        said = r"support@2 was approved already, by ada, 2026-01-\d\d \d\d:\d\d UTC: it is approved now"
        with pytest.raises(Conflict, match=said):
            approve(connection, approved)


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_decision_needs_a_reason(ledger: Ledger, reason: str) -> None:
    with ledger.begin() as connection:
        version = candidate(connection)
        with pytest.raises(InvalidInput) as caught:
            approvals.approve(
                connection, version, person="ada", reason=reason, bundle_hash=None, valid_for=HOUR, now=NOON
            )
        assert caught.value.field == "reason"
        with pytest.raises(InvalidInput):
            approvals.reject(connection, version, person="ada", reason=reason, now=NOON)
        assert approvals.latest(connection, version) is None


def test_an_approval_binds_to_the_bundle_that_was_looked_at(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        version = candidate(connection)
        with pytest.raises(Conflict, match="is not the bundle that was reviewed"):
            approve(connection, version, bundle_hash="0" * 64)
        assert approve(connection, version, bundle_hash=version.bundle_hash).stage is Stage.PRODUCTION


@pytest.mark.parametrize("why", ["expired", "another bundle", "never approved"])
def test_no_rollout_begins_without_a_valid_approval(ledger: Ledger, why: str) -> None:
    with ledger.begin() as connection:
        champion(connection)
        version = candidate(connection)
        if why != "never approved":
            version = approve(connection, version)
        if why == "another bundle":
            connection.execute(
                update(tables.versions).where(tables.versions.c.id == version.id).values(bundle_hash="0" * 64)
            )
            version = versions.get(connection, version.id)
    later = NOON + (72 * HOUR if why == "expired" else HOUR)
    with pytest.raises(Conflict, match="has no valid approval"), ledger.begin() as connection:
        rollouts.start(connection, version, salt="salt", now=later)


def test_an_expired_approval_sends_its_version_back_to_be_approved_again(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        champion(connection)
        version = approve(connection, candidate(connection))
        just_before = NOON + 72 * HOUR - timedelta(microseconds=1)
        assert approvals.expire(connection, now=just_before) == []
        [waiting] = approvals.expire(connection, now=NOON + 72 * HOUR)
        assert (waiting.id, waiting.stage) == (version.id, Stage.AWAITING_APPROVAL)
        again = approve(connection, waiting, now=NOON + 73 * HOUR)
        assert approvals.expire(connection, now=NOON + 74 * HOUR) == []
        assert rollouts.start(connection, again, salt="salt", now=NOON + 74 * HOUR).candidate == version.id


def test_a_rejection_is_final(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        rejected = approvals.reject(connection, candidate(connection), person="bob", reason="worse", now=NOON)
        decision = approvals.latest(connection, rejected)
        assert decision is not None
        assert (decision.decision, decision.person, decision.expires_at) == ("rejected", "bob", None)
        with pytest.raises(Conflict, match="nothing: it is final"):
            approve(connection, rejected)


def test_the_watch_ends_only_for_the_champion_it_was_for(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        champion(connection)
        promote(connection, in_shadow(connection))
        watched = versions.model_state(connection, "support")
        promote(connection, in_shadow(connection))
        newer = versions.model_state(connection, "support")
        with pytest.raises(Conflict, match="has changed meanwhile"):
            versions.end_watch(connection, watched, now=NOON)
        assert versions.model_state(connection, "support") == newer
        versions.end_watch(connection, newer, now=NOON)
        ended = versions.model_state(connection, "support")
    assert (ended.production, ended.previous, ended.watch_until) == (newer.production, None, None)
