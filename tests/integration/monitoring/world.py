"""A served model without HTTP: a toy bundle's real answers through spool and Delta table, labels into the ledger."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.core.bundle import Bundle
from monitoring.core.ids import unit_hash
from monitoring.core.ledger import alerts, approvals, jobs, labels, rollouts, verdicts, versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.prediction_record import PredictionRecord
from monitoring.core.registry import Registry
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.settings import MonitorSettings, RetrainSettings, Settings
from monitoring.core.spool import SpoolWriter
from monitoring.core.storage import Storage
from monitoring.core.types import Alert, LabelSource, ModelVersion, Outcome, Rollout, TrainingJob, Variant
from monitoring.monitor import Monitor, TickSummary
from tests.bundles import LABELS, toy_texts
from tests.conftest import FrozenClock

MODEL = "support"
ROWS_A_FRAME = 50


@dataclass(frozen=True)
class Answer:
    """One prediction that was served: its id and what would have been right."""

    id: str
    label: str


class World:
    """A home folder with one model in production, and the traffic of its users."""

    def __init__(self, home: Path, clock: FrozenClock, rng: np.random.Generator, settings: Settings) -> None:
        self.home, self.clock, self.rng, self.settings = home, clock, rng, settings
        self.ledger = Ledger.open(settings.ledger_url)
        self.ledger.upgrade()
        self.log = PredictionLog(settings.log_url)
        self.registry = Registry(self.ledger, Storage(settings.store_url), settings.cache_dir, clock)
        self.spool = SpoolWriter(settings.spool_dir, writer="server", segment_bytes=1 << 20, max_bytes=1 << 26)
        self._runtimes: dict[str, ClassifierRuntime] = {}

    def close(self) -> None:
        """End the writer and give back the connections."""
        self.spool.close()
        self.ledger.close()

    def register(self, bundle: Bundle) -> ModelVersion:
        """Register a bundle; it waits for approval."""
        version = self.registry.add(bundle, evidence={}, actor="test", gates_passed=True)
        self._runtimes[version.id] = ClassifierRuntime(bundle)
        return version

    def approve(self, version: ModelVersion) -> ModelVersion:
        """Approve it; a model's first version then serves."""
        with self.ledger.begin() as connection:
            return approvals.approve(
                connection,
                version,
                person="ann",
                reason="looks right",
                bundle_hash=None,
                valid_for=timedelta(hours=1),
                now=self.clock(),
            )

    def start_rollout(self, version: ModelVersion, *, share: float) -> Rollout:
        """Bring an approved version into its first A/B step."""
        with self.ledger.begin() as connection:
            rollout = rollouts.start(connection, version, salt="salt", now=self.clock())
            return rollouts.advance(connection, rollout, step=0, share=share, reason="test", now=self.clock())

    def promote(self, rollout: Rollout) -> None:
        """Make its candidate the champion."""
        with self.ledger.begin() as connection:
            rollouts.promote(
                connection, rollout, actor="ann", reason="better", watch=timedelta(hours=1), now=self.clock()
            )

    def serve(
        self,
        version: ModelVersion,
        n: int,
        *,
        topics: Sequence[str] = LABELS,
        variant: Variant = Variant.PRODUCTION,
        rollout: Rollout | None = None,
        error: str | None = None,
        latency_ms: float = 5.0,
        units: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        metadata: Mapping[str, str] | None = None,
        ship: bool = True,
        broken: bool = False,
    ) -> list[Answer]:
        """Answer `n` messages about `topics`, one a second, and ship them; `broken`: no embedding is a number."""
        texts, truth = toy_texts(topics, n, self.rng)
        predictions = self._runtimes[version.id].predict(texts)
        if broken:
            nothing = np.full_like(predictions.projected, np.nan)
            predictions = replace(predictions, projected=nothing, similarity=np.full(n, np.nan))
        rows: list[dict[str, Any]] = []
        for number, text in enumerate(texts):
            moment = self.clock.advance(timedelta(seconds=1))
            identity = ids[number] if ids is not None else id_of(moment, self.rng)
            rows.append(
                PredictionRecord(
                    prediction_id=identity,
                    model=MODEL,
                    version=version.id,
                    variant=variant,
                    rollout=None if rollout is None else rollout.id,
                    step=-1 if rollout is None else rollout.step,
                    share=0.0 if rollout is None else rollout.share,
                    unit=unit_hash(units[number] if units is not None else identity),
                    at_us=round(moment.timestamp() * 1_000_000),
                    text=text,
                    predicted=version.labels[predictions.predicted[number]],
                    confidence=float(predictions.confidence[number]),
                    entropy=float(predictions.entropy[number]),
                    margin=float(predictions.margin[number]),
                    similarity=float(predictions.similarity[number]),
                    rarity=float(predictions.rarity[number]),
                    length=float(predictions.length[number]),
                    projected=predictions.projected[number].tolist(),
                    top_k="{}",
                    latency_ms=latency_ms,
                    error=error,
                    metadata=json.dumps(metadata or {}),
                ).row()
            )
        assert all(self.spool.append(rows[start : start + ROWS_A_FRAME]) for start in range(0, n, ROWS_A_FRAME))
        if ship:
            self.ship()
        return [Answer(row["prediction_id"], label) for row, label in zip(rows, truth, strict=True)]

    def ship(self) -> None:
        """Move what is spooled into the table."""
        self.log.ship(self.settings.spool_dir)

    def label(
        self,
        answers: Sequence[Answer],
        source: LabelSource = LabelSource.GROUND_TRUTH,
        *,
        sampling_probability: float = 1.0,
    ) -> None:
        """Tell what would have been right."""
        with self.ledger.begin() as connection:
            for answer in answers:
                labels.add_feedback(
                    connection,
                    prediction_id=answer.id,
                    source=source,
                    label=answer.label,
                    rating=None,
                    sampling_probability=sampling_probability,
                    author="shop",
                    now=self.clock.advance(timedelta(milliseconds=1)),
                )

    def watch(self, ledger: Ledger | None = None) -> list[TickSummary]:
        """Watch as a monitor does whose process has just been started."""
        log, registry = self.log, self.registry
        monitor = Monitor(ledger=ledger or self.ledger, log=log, registry=registry, settings=self.settings)
        return monitor.watch(MODEL, now=self.clock())

    def champion(self) -> ModelVersion:
        """The version in production."""
        with self.ledger.read() as connection:
            state = versions.model_state(connection, MODEL)
            assert state.production is not None
            return versions.get(connection, state.production)

    def gauges(self) -> dict[str, Any]:
        """The champion's gauges, which must be JSON that every database takes."""
        champion = self.champion()
        with self.ledger.read() as connection:
            [values] = [values for _, version, values, _ in verdicts.load_gauges(connection) if version == champion.id]
        json.dumps(values, allow_nan=False)
        return values

    def alerts(self) -> list[Alert]:
        """The open ones."""
        with self.ledger.read() as connection:
            return alerts.find(connection, model=MODEL, open_only=True)

    def jobs(self) -> list[TrainingJob]:
        """All that were asked for."""
        with self.ledger.read() as connection:
            return jobs.find(connection, model=MODEL)

    def outcomes(self) -> list[Outcome]:
        """All that were joined."""
        with self.ledger.read() as connection:
            return labels.find_outcomes(connection, model=MODEL)


def settings_for(home: Path, **retrain: Any) -> Settings:
    """Small windows, no cooldown."""
    return Settings(
        home=home,
        monitor=MonitorSettings(window_size=200),
        retrain=RetrainSettings(**({"min_new_labels": 60, "cooldown_hours": 0.0} | retrain)),
    )


def id_of(moment: datetime, rng: np.random.Generator) -> str:
    """A UUIDv7 of that moment."""
    milliseconds = round(moment.timestamp() * 1000)
    value = milliseconds << 80 | 0x7 << 76 | 0x2 << 62 | int(rng.integers(1 << 62))
    return str(uuid.UUID(int=value))
