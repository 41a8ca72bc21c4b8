"""Killed at any moment, the ledger has one champion, no half-made step and an unbroken trail."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from monitoring.core.ledger import audit, rollouts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.lifecycle import IN_ROLLOUT
from monitoring.core.types import Stage
from tests.contract.people import MODEL
from tests.integration.core.ledger_child import begin
from tests.integration.core.processes import child, read_line

KILLS = 10


def test_a_kill_at_any_moment_leaves_whole_steps(tmp_path: Path, rng: np.random.Generator) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    begin(url)
    with closing(Ledger.open(url)) as ledger:
        events = 0
        for _ in range(KILLS):
            with child("ledger_child", url) as process:
                read_line(process)
                _await_events(ledger, events + int(rng.integers(1, 40)))
                process.kill()
                process.wait()
            assert_sound(ledger)
            assert _events(ledger) > events
            events = _events(ledger)


def assert_sound(ledger: Ledger) -> None:
    """What holds between any two transactions."""
    with ledger.read() as connection:
        [serving] = versions.find(connection, stages={Stage.PRODUCTION})
        state = versions.model_state(connection, MODEL)
        assert state.production == serving.id
        assert state.previous is None or versions.get(connection, state.previous).stage is Stage.ARCHIVED
        under_way = rollouts.open_rollouts(connection)
        testing = versions.find(connection, stages=IN_ROLLOUT)
        assert [(version.id, version.stage) for version in testing] == [(r.candidate, r.stage) for r in under_way]
        assert all(rollout.champion == serving.id for rollout in under_way)
        assert audit.first_broken_link(connection) is None
        for version in versions.find(connection):
            [newest] = audit.events(connection, subject=version.name, limit=1)
            assert newest.action == f"stage:{version.stage}"


def _await_events(ledger: Ledger, number: int) -> None:
    while _events(ledger) < number:
        pass


def _events(ledger: Ledger) -> int:
    with ledger.read() as connection:
        return audit.events(connection, limit=1)[0].sequence
