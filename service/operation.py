"""What a person may do to versions, rollouts and models.

The API, the console and the command line all act through `Operator`: there the right is checked, the reason is asked
for, and each act is one transaction under the person's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from sqlalchemy import Connection

from monitoring.core.errors import InvalidInput
from monitoring.core.ledger import approvals, jobs, rollouts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import RolloutSettings
from monitoring.core.types import Clock, ModelVersion, Principal, RetrainCause, Role, Rollout, TrainingJob
from service.auth import check_role

MAX_REASON = 2000


@dataclass(frozen=True)
class Operator:
    """Acts in the name of `person`.

    Every act raises NotAllowed, InvalidInput, NotFound or Conflict, and has then changed nothing.
    """

    person: Principal
    ledger: Ledger
    settings: RolloutSettings
    clock: Clock

    def approve(self, version: str, *, reason: str, bundle_hash: str | None = None) -> ModelVersion:
        """Approve a candidate; `bundle_hash` is that of the bundle the person looked at."""
        reason = self._entitled(Role.APPROVE, reason)
        with self.ledger.begin() as connection:
            return approvals.approve(
                connection,
                versions.get(connection, version),
                person=self.person.name,
                reason=reason,
                bundle_hash=bundle_hash,
                valid_for=timedelta(hours=self.settings.approval_hours),
                now=self.clock(),
            )

    def reject(self, version: str, *, reason: str) -> ModelVersion:
        """Reject a candidate for good."""
        reason = self._entitled(Role.APPROVE, reason)
        with self.ledger.begin() as connection:
            candidate = versions.get(connection, version)
            return approvals.reject(connection, candidate, person=self.person.name, reason=reason, now=self.clock())

    def pause(self, rollout: str, *, reason: str) -> Rollout:
        """Stop a rollout from advancing; traffic stays as it is."""
        return self._change(rollouts.pause, rollout, reason)

    def resume(self, rollout: str, *, reason: str) -> Rollout:
        """Let a paused rollout go on."""
        return self._change(rollouts.resume, rollout, reason)

    def promote(self, rollout: str, *, reason: str) -> Rollout:
        """Make the candidate the champion without waiting for the verdict."""
        watch = timedelta(hours=self.settings.watch_hours)
        return self._change(partial(rollouts.promote, watch=watch), rollout, reason)

    def abort(self, rollout: str, *, reason: str) -> Rollout:
        """Give all traffic back to the champion."""
        return self._change(rollouts.abort, rollout, reason)

    def rollback(self, model: str, *, reason: str) -> ModelVersion:
        """Undo the model's last promotion while the replaced version is still warm; the version that serves again."""
        reason = self._entitled(Role.OPERATE, reason)
        with self.ledger.begin() as connection:
            return rollouts.restore_previous(connection, model, actor=self.person.name, reason=reason, now=self.clock())

    def retrain(self, model: str, *, reason: str) -> TrainingJob:
        """Ask for a retraining."""
        return self._ask(RetrainCause.MANUAL, model, reason)

    def recalibrate(self, model: str, *, reason: str) -> TrainingJob:
        """Ask for the champion with another temperature, fitted to recent labels."""
        return self._ask(RetrainCause.CALIBRATION, model, reason)

    def _ask(self, cause: RetrainCause, model: str, reason: str) -> TrainingJob:
        reason = self._entitled(Role.OPERATE, reason)
        with self.ledger.begin() as connection:
            return jobs.request(
                connection,
                model=model,
                cause=cause,
                reason=reason,
                request={"onset_at": None, "alert": None},
                actor=self.person.name,
                now=self.clock(),
            )

    def _change(self, act: Callable[..., Rollout], rollout: str, reason: str) -> Rollout:
        reason = self._entitled(Role.OPERATE, reason)
        with self.ledger.begin() as connection:
            found = find_rollout(connection, rollout)
            return act(connection, found, actor=self.person.name, reason=reason, now=self.clock())

    def _entitled(self, role: Role, reason: str) -> str:
        """The reason, for the audit trail. Raises NotAllowed without the role, InvalidInput without a reason."""
        check_role(self.person, role)
        if not reason.strip():
            raise InvalidInput("reason is empty: say in a few words why, for the audit trail", field="reason")
        if len(reason) > MAX_REASON:
            raise InvalidInput(f"reason has {len(reason)} characters; at most {MAX_REASON}", field="reason")
        return reason.strip()


def find_rollout(connection: Connection, reference: str) -> Rollout:
    """The rollout with this id, or the newest one of the model with this name. Raises NotFound."""
    newest = rollouts.find(connection, model=reference, limit=1)
    return newest[0] if newest else rollouts.get(connection, reference)
