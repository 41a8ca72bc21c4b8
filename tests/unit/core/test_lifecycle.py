"""The transition tables are complete; along them a model never has two champions, and never loses its last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection

from monitoring.core.errors import Conflict
from monitoring.core.ledger import approvals, audit, rollouts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.lifecycle import (
    IN_ROLLOUT,
    JOBS,
    OPEN_JOBS,
    OPEN_PHASES,
    PHASES,
    STAGES,
    UNDECIDED,
    check_step,
)
from monitoring.core.tables import metadata
from monitoring.core.types import JobState, ModelVersion, Rollout, RolloutPhase, Stage
from tests.contract.people import NOON, approve, candidate

TABLES = [(Stage, STAGES), (RolloutPhase, PHASES), (JobState, JOBS)]


@pytest.mark.parametrize(("states", "table"), TABLES)
def test_every_state_has_its_row(states: type[StrEnum], table: Mapping[StrEnum, frozenset[StrEnum]]) -> None:
    assert set(table) == set(states)
    assert set().union(*table.values()) <= set(states)


@pytest.mark.parametrize(
    ("table", "start"), [(STAGES, Stage.CANDIDATE), (PHASES, RolloutPhase.PENDING), (JOBS, JobState.QUEUED)]
)
def test_every_state_can_be_reached_and_can_end(table: Mapping[StrEnum, frozenset[StrEnum]], start: StrEnum) -> None:
    final = {state for state, following in table.items() if not following}
    assert _reachable(table, start) == set(table)
    assert all(final & _reachable(table, state) for state in table)


def test_the_open_states_are_those_that_can_go_on() -> None:
    assert {phase for phase, following in PHASES.items() if following} == OPEN_PHASES
    assert {state for state, following in JOBS.items() if following} == OPEN_JOBS


def test_only_a_rollout_or_a_rollback_leads_to_production() -> None:
    assert {stage for stage, following in STAGES.items() if Stage.PRODUCTION in following} == {
        Stage.APPROVED,
        Stage.AB_TEST,
        Stage.ARCHIVED,
    }
    assert IN_ROLLOUT < UNDECIDED
    assert not UNDECIDED & {Stage.PRODUCTION, Stage.ARCHIVED, Stage.REJECTED, Stage.ROLLED_BACK}


@pytest.mark.parametrize(("states", "table"), TABLES)
def test_a_step_is_allowed_exactly_where_the_table_says(
    states: type[StrEnum], table: Mapping[StrEnum, frozenset[StrEnum]]
) -> None:
    for current in states:
        for target in states:
            if target in table[current]:
                check_step(table, current, target, "it")
            else:
                with pytest.raises(Conflict, match=f"it is {current}; it cannot become {target}"):
                    check_step(table, current, target, "it")


def test_a_refusal_says_what_would_be_allowed() -> None:
    with pytest.raises(Conflict, match=r"allowed from here: ab_test, rolled_back"):
        check_step(STAGES, Stage.SHADOW, Stage.PRODUCTION, "support@2")
    with pytest.raises(Conflict, match="nothing: it is final"):
        check_step(STAGES, Stage.REJECTED, Stage.APPROVED, "support@2")


def _reachable(table: Mapping[StrEnum, frozenset[StrEnum]], start: StrEnum) -> set[StrEnum]:
    found, waiting = {start}, [start]
    while waiting:
        following = table[waiting.pop()] - found
        found |= following
        waiting += following
    return found


@dataclass
class Model:
    """What one model must look like, kept apart from the ledger."""

    had_champion: bool = False
    rollouts: list[Rollout] = field(default_factory=list)  # every reading ever taken, stale ones included
    versions: list[ModelVersion] = field(default_factory=list)


class Lifecycle(RuleBasedStateMachine):
    """People and controllers act on any reading they ever had; the ledger refuses or obeys, and stays sound."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger.open("sqlite://")
        with self.ledger.begin() as connection:
            metadata.create_all(connection)
        self.seen = Model()
        self.now = NOON

    def teardown(self) -> None:
        """Every history ends with a whole audit trail that tells each version's stage."""
        with self.ledger.read() as connection:
            assert audit.first_broken_link(connection) is None
            for version in versions.find(connection):
                told = [event.action for event in audit.events(connection, subject=version.name, limit=1_000)]
                assert told[0] == ("register" if version.stage is Stage.CANDIDATE else f"stage:{version.stage}")
        self.ledger.close()

    @initialize()
    def register_the_first(self) -> None:
        """There is something to act on."""
        self.register()

    @rule()
    def register(self) -> None:
        """A worker brings a candidate."""
        self._try(lambda connection: candidate(connection, now=self.now))

    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        """A person approves or rejects what they once saw."""
        version = data.draw(st.sampled_from(self.seen.versions))
        if data.draw(st.booleans()):
            self._try(lambda connection: approve(connection, version, now=self.now))
        else:
            self._try(
                lambda connection: approvals.reject(connection, version, person="bob", reason="worse", now=self.now)
            )

    @rule(hours=st.sampled_from([1, 80]))
    def wait(self, hours: int) -> None:
        """Time passes; approvals run out."""
        self.now += timedelta(hours=hours)
        self._try(lambda connection: approvals.expire(connection, now=self.now))

    @rule(data=st.data())
    def start_a_rollout(self, data: st.DataObject) -> None:
        """A controller begins with what it once read."""
        version = data.draw(st.sampled_from(self.seen.versions))
        self._try(lambda connection: rollouts.start(connection, version, salt="salt", now=self.now))

    @precondition(lambda self: self.seen.rollouts)
    @rule(data=st.data(), act=st.sampled_from(["advance", "pause", "resume", "promote", "abort"]))
    def act_on_a_rollout(self, data: st.DataObject, act: str) -> None:
        """A controller or a person acts on the newest reading or on a stale one."""
        newest_first = list(reversed(self.seen.rollouts))
        rollout = data.draw(st.sampled_from(newest_first))
        self._try(lambda connection: ACTS[act](connection, rollout, self.now))

    @rule()
    def roll_back(self) -> None:
        """A person undoes the last promotion."""
        self._try(
            lambda connection: rollouts.restore_previous(
                connection, "support", actor="bob", reason="complaints", now=self.now
            )
        )

    @rule()
    def end_the_watch(self) -> None:
        """The controller lets the previous version go."""
        self._try(
            lambda connection: versions.end_watch(connection, versions.model_state(connection, "support"), now=self.now)
        )

    @invariant()
    def one_champion(self) -> None:
        """Never two, and never none once there was one; the model's pointer names it."""
        with self.ledger.read() as connection:
            serving = versions.find(connection, stages={Stage.PRODUCTION})
            [state] = versions.model_states(connection) or [None]
        if state is None:
            return
        self.seen.had_champion |= bool(serving)
        assert len(serving) == int(self.seen.had_champion)
        assert [version.id for version in serving] == ([state.production] if state.production else [])
        assert state.previous is None or state.previous != state.production

    @invariant()
    def rollouts_and_stages_agree(self) -> None:
        """At most one rollout is open, and exactly its candidate is in shadow or in the A/B test."""
        with self.ledger.read() as connection:
            under_way = rollouts.open_rollouts(connection)
            testing = versions.find(connection, stages=IN_ROLLOUT)
        assert len(under_way) <= 1
        assert [version.id for version in testing] == [rollout.candidate for rollout in under_way]
        assert [version.stage for version in testing] == [rollout.stage for rollout in under_way]
        assert all(rollout.phase in OPEN_PHASES for rollout in under_way)

    def _try(self, act: Callable[[Connection], Any]) -> None:
        """Do it in one transaction; a refusal is as good an answer. Then take new readings."""
        with suppress(Conflict), self.ledger.begin() as connection:
            act(connection)
        with self.ledger.read() as connection:
            self.seen.versions += [v for v in versions.find(connection) if v not in self.seen.versions]
            self.seen.rollouts += [r for r in rollouts.find(connection) if r not in self.seen.rollouts]


def _advance(connection: Connection, rollout: Rollout, now: datetime) -> Rollout:
    return rollouts.advance(connection, rollout, step=rollout.step + 1, share=0.1, reason="no harm", now=now)


def _promote(connection: Connection, rollout: Rollout, now: datetime) -> Rollout:
    return rollouts.promote(connection, rollout, actor="bob", reason="better", watch=timedelta(hours=72), now=now)


ACTS: Mapping[str, Callable[[Connection, Rollout, datetime], Rollout]] = {
    "advance": _advance,
    "promote": _promote,
    "pause": lambda connection, rollout, now: rollouts.pause(connection, rollout, reason="unsure", now=now),
    "resume": lambda connection, rollout, now: rollouts.resume(
        connection, rollout, actor="bob", reason="go on", now=now
    ),
    "abort": lambda connection, rollout, now: rollouts.abort(connection, rollout, actor="bob", reason="worse", now=now),
}

Lifecycle.TestCase.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
TestLifecycle = Lifecycle.TestCase
