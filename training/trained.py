"""What comes of a training job: a registered version with its evidence, and exactly which code made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from monitoring.core.bundle import CARD, EVALUATION, Bundle, seal, write_config
from monitoring.core.types import ModelVersion
from training.gates import GateResult
from training.plan import Workshop

ROOT = Path(__file__).parent.parent
SOURCES = ("training", "monitoring")

Conclude = Callable[[Connection, ModelVersion], None]


@dataclass(frozen=True)
class Trained:
    """What came of it: a registered version with its evidence, waiting for approval or rejected by a gate."""

    version: ModelVersion
    gates: tuple[GateResult, ...]
    evidence: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether all gates passed."""
        return all(gate.passed for gate in self.gates)


def register(
    draft: Bundle,
    card: str,
    gates: tuple[GateResult, ...],
    evidence: dict[str, Any],
    workshop: Workshop,
    *,
    actor: str,
    conclude: Conclude | None,
) -> Trained:
    """Seal the draft with its card and evidence, and register it; `conclude` runs in the registering transaction."""
    draft.path(EVALUATION).write_text(json.dumps(evidence, indent=2))
    draft.path(CARD).write_text(card)
    write_config(draft.folder, draft.config)
    passed = all(gate.passed for gate in gates)
    version = workshop.registry.add(
        seal(draft.folder), evidence=evidence, actor=actor, gates_passed=passed, conclude=conclude
    )
    return Trained(version, gates, evidence)


def code_version() -> str:
    """The distribution's version and a digest of the sources that train: what exactly made a model."""
    digest = hashlib.sha256()
    for path in sorted(path for name in SOURCES for path in (ROOT / name).rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    try:
        number = version("leeway")
    except PackageNotFoundError:
        number = "0"
    return f"{number}+{digest.hexdigest()[:12]}"
