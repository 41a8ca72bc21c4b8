"""Rows of a prediction log, each known by its number, and what a log holds of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from monitoring.core.prediction_log import PredictionLog
from monitoring.core.prediction_record import PredictionRecord
from monitoring.core.spool import SpoolWriter
from monitoring.core.types import Variant

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def identity(number: int, at: datetime = NOON) -> str:
    """A UUIDv7 of that moment which carries `number`."""
    return str(UUID(int=round(at.timestamp() * 1000) << 80 | 0x7 << 76 | 0x2 << 62 | number))


def row(number: int, *, at: datetime | None = None, model: str = "support", version: str = "v1") -> dict[str, Any]:
    """Row `number`, answered so many seconds after noon."""
    moment = NOON + timedelta(seconds=number) if at is None else at
    return PredictionRecord(
        prediction_id=identity(number, moment),
        model=model,
        version=version,
        variant=Variant.PRODUCTION,
        rollout=None,
        step=-1,
        share=0.0,
        unit="0011223344556677",
        at_us=round(moment.timestamp() * 1_000_000),
        text=f"message {number}",
        predicted="billing",
        confidence=0.9,
        entropy=0.1,
        margin=0.8,
        similarity=0.7,
        rarity=3.0,
        length=float(number),
        projected=[0.5] * 32,
        top_k="{}",
        latency_ms=1.0,
        error=None,
        metadata="{}",
    ).row()


def open_writer(root: Path, name: str = "server", *, segment_bytes: int = 4096) -> SpoolWriter:
    """A writer whose segments hold a few frames."""
    return SpoolWriter(root, writer=name, segment_bytes=segment_bytes, max_bytes=1 << 28)


def append(spool: SpoolWriter, numbers: Iterable[int]) -> None:
    """One frame a row."""
    assert all(spool.append([row(number)]) for number in numbers)


def numbers_in(log: PredictionLog, **asked: Any) -> list[int]:
    """The numbers of the rows that are read, in the log's order."""
    return [int(length) for length in log.read(**asked, columns=["length"])["length"].to_pylist()]
