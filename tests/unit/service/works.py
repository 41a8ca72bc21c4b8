"""Versions and works for tests of the queue, which looks at neither models nor callers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from monitoring.core.runtime import ClassifierRuntime, Encoded
from monitoring.core.types import ModelVersion, Stage, Variant
from service.engine.classifier import LoadedVersion
from service.engine.work import NO_ROLLOUT, Call, Work


def version(
    number: int = 1, *, model: str = "support", stage: Stage = Stage.PRODUCTION, id: str | None = None
) -> ModelVersion:
    """A registered version."""
    born = datetime(2026, 1, 1, tzinfo=UTC)
    return ModelVersion(id or f"{model}-{number}", model, number, stage, "uri", "hash", ("a", "b"), {}, {}, born)


def loaded(
    number: int = 1, *, model: str = "support", max_batch: int = 4, max_batch_tokens: int = 512
) -> LoadedVersion:
    """A version in memory, so to speak."""
    return LoadedVersion(version(number, model=model), cast(ClassifierRuntime, None), max_batch, max_batch_tokens)


def unread(target: LoadedVersion, text: str = "text", party: str = "") -> Work:
    """A text that has just arrived."""
    return Work(cast(Call, None), 0, "id", text, target, Variant.PRODUCTION, NO_ROLLOUT, party)


def read(work: Work, tokens: int) -> Work:
    """The same, tokenised."""
    work.encoded = Encoded(tuple(range(tokens)))
    return work
