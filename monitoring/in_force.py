"""The baseline by which a version is judged: that of its bundle, or the one that took its place since."""

from __future__ import annotations

import hashlib

from monitoring.baseline import Baseline
from monitoring.core import bundle as bundles
from monitoring.core.errors import BrokenBundle
from monitoring.core.ledger.baselines import BaselineChange
from monitoring.core.registry import Registry
from monitoring.core.types import ModelVersion


def load_baseline(registry: Registry, version: ModelVersion, change: BaselineChange | None) -> Baseline:
    """The baseline in force. Raises BrokenBundle or NotFound."""
    if change is None:
        return Baseline.load(registry.fetch(version).path(bundles.BASELINE))
    content = registry.storage.get_bytes(change.uri)
    if hashlib.sha256(content).hexdigest() != change.sha256:
        raise BrokenBundle(f"{change.uri} is not what was kept as the baseline of {version.name}: bring back a backup")
    return Baseline.from_bytes(content, known_as=change.uri)
