"""The pure transition tables: which step may follow which, for versions, rollouts and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from monitoring.core.errors import Conflict
from monitoring.core.types import JobState, RolloutPhase, Stage

S = TypeVar("S", bound=StrEnum)

STAGES: Mapping[Stage, frozenset[Stage]] = {
    Stage.CANDIDATE: frozenset({Stage.AWAITING_APPROVAL, Stage.REJECTED}),
    Stage.AWAITING_APPROVAL: frozenset({Stage.APPROVED, Stage.REJECTED}),
    # straight to PRODUCTION only where the model has no champion yet; back to waiting when the approval expires
    Stage.APPROVED: frozenset({Stage.SHADOW, Stage.PRODUCTION, Stage.AWAITING_APPROVAL, Stage.REJECTED}),
    Stage.SHADOW: frozenset({Stage.AB_TEST, Stage.ROLLED_BACK}),
    Stage.AB_TEST: frozenset({Stage.PRODUCTION, Stage.ROLLED_BACK}),
    Stage.PRODUCTION: frozenset({Stage.ARCHIVED, Stage.ROLLED_BACK}),
    Stage.ARCHIVED: frozenset({Stage.PRODUCTION}),
    Stage.REJECTED: frozenset(),
    Stage.ROLLED_BACK: frozenset(),
}

PHASES: Mapping[RolloutPhase, frozenset[RolloutPhase]] = {
    RolloutPhase.PENDING: frozenset({RolloutPhase.RUNNING, RolloutPhase.FAILED, RolloutPhase.ERROR}),
    RolloutPhase.RUNNING: frozenset(
        {
            RolloutPhase.RUNNING,
            RolloutPhase.INCONCLUSIVE,
            RolloutPhase.SUCCESSFUL,
            RolloutPhase.FAILED,
            RolloutPhase.ERROR,
        }
    ),
    RolloutPhase.INCONCLUSIVE: frozenset(
        {RolloutPhase.RUNNING, RolloutPhase.SUCCESSFUL, RolloutPhase.FAILED, RolloutPhase.ERROR}
    ),
    RolloutPhase.SUCCESSFUL: frozenset(),
    RolloutPhase.FAILED: frozenset(),
    RolloutPhase.ERROR: frozenset(),
}

JOBS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    # RUNNING again: a worker takes over from one whose lease ran out
    JobState.RUNNING: frozenset({JobState.RUNNING, JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

OPEN_PHASES = frozenset({RolloutPhase.PENDING, RolloutPhase.RUNNING, RolloutPhase.INCONCLUSIVE})
OPEN_JOBS = frozenset({JobState.QUEUED, JobState.RUNNING})
IN_ROLLOUT = frozenset({Stage.SHADOW, Stage.AB_TEST})
UNTRIED = frozenset({Stage.CANDIDATE, Stage.AWAITING_APPROVAL, Stage.APPROVED})
UNDECIDED = UNTRIED | IN_ROLLOUT


def check_step(table: Mapping[S, frozenset[S]], current: S, target: S, what: str) -> None:
    """Raise Conflict unless `table` allows the step `current` → `target` for the thing named `what`."""
    if target in table[current]:
        return
    allowed = ", ".join(sorted(table[current])) or "nothing: it is final"
    raise Conflict(f"{what} is {current}; it cannot become {target} (allowed from here: {allowed})")
