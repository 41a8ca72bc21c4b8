"""A person's approval, without which nothing serves."""

from __future__ import annotations

from datetime import timedelta

from monitoring.core.ledger import approvals, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import ModelVersion, utc_now


def approve(ledger: Ledger, name: str) -> ModelVersion:
    """The version as it stands after its approval; a model's first is then in production."""
    with ledger.begin() as connection:
        return approvals.approve(
            connection,
            versions.get(connection, name),
            person="test",
            reason="test",
            bundle_hash=None,
            valid_for=timedelta(hours=1),
            now=utc_now(),
        )
