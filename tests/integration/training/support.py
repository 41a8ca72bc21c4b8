"""A served toy model with traffic behind it: what a retraining starts from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.core.ids import new_id, unit_hash
from monitoring.core.ledger import approvals, jobs, labels
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog, PredictionRecord
from monitoring.core.settings import Settings
from monitoring.core.spool import SpoolWriter
from monitoring.core.types import LabelSource, ModelVersion, RetrainCause, TrainingJob, Variant, utc_now
from tests.bundles import toy_texts
from training.data import LabelledData, split
from training.pipeline import run
from training.plan import Workshop, plan_first
from training.recipe import Recipe

MODEL = "support"
LABELS = ("billing", "delivery", "account")
NEW_LABEL = "returns"


@dataclass(frozen=True)
class Traffic:
    """Logged predictions and what they ought to have been."""

    ids: Sequence[str]
    labels: Sequence[str]


def put_into_production(workshop: Workshop, base: Path) -> ModelVersion:
    """Train the first version from a file's rows and put it into production."""
    texts, truth = toy_texts(LABELS, 400, np.random.default_rng(1))
    data = LabelledData(tuple(texts), tuple(truth))
    plan = plan_first(
        data,
        split(texts, truth, seed=1),
        model=MODEL,
        base=str(base),
        recipe=Recipe.for_method("head", max_tokens=32),
        seed=1,
        workshop=workshop,
    )
    trained = run(plan, workshop, actor="test")
    assert trained.passed, trained.gates
    with workshop.ledger.begin() as connection:
        return approvals.approve(
            connection,
            trained.version,
            person="ada",
            reason="the first",
            bundle_hash=None,
            valid_for=timedelta(hours=1),
            now=utc_now(),
        )


def log_traffic(settings: Settings, version: ModelVersion, n: int, *, seed: int = 2, **changes: Any) -> Traffic:
    """Put `n` predictions of distinct customers into the prediction log; two in five are of a class that is new."""
    rng = np.random.default_rng(seed)
    texts, truth = toy_texts((*LABELS, NEW_LABEL, NEW_LABEL), n, rng)
    ids = [new_id() for _ in texts]
    writer = SpoolWriter(settings.spool_dir, writer=f"test-{seed}", segment_bytes=1 << 20, max_bytes=1 << 30)
    records = [
        record(identifier, version, text, unit=f"customer {seed} {number}", **changes)
        for number, (identifier, text) in enumerate(zip(ids, texts, strict=True))
    ]
    assert writer.append([one.row() for one in records])
    writer.close()
    PredictionLog(settings.log_url).ship(settings.spool_dir)
    return Traffic(ids, truth)


def record(
    identifier: str,
    version: ModelVersion,
    text: str | None,
    *,
    unit: str,
    at: datetime | None = None,
    variant: Variant = Variant.PRODUCTION,
    error: str | None = None,
) -> PredictionRecord:
    return PredictionRecord(
        prediction_id=identifier,
        model=version.model,
        version=version.id,
        variant=variant,
        rollout=None,
        step=-1,
        share=0.0,
        unit=unit_hash(unit),
        at_us=int((at or utc_now()).timestamp() * 1e6),
        text=text,
        predicted="billing",
        confidence=0.5,
        entropy=1.0,
        margin=0.1,
        similarity=0.5,
        rarity=3.0,
        length=5.0,
        projected=[0.0] * 32,
        top_k=json.dumps({}),
        latency_ms=1.0,
        error=error,
        metadata="{}",
    )


def label_traffic(ledger: Ledger, traffic: Traffic, source: LabelSource = LabelSource.GROUND_TRUTH) -> None:
    """Say of each prediction what it ought to have been."""
    with ledger.begin() as connection:
        for identifier, label in zip(traffic.ids, traffic.labels, strict=True):
            labels.add_feedback(
                connection,
                prediction_id=identifier,
                source=source,
                label=label,
                rating=None,
                sampling_probability=1.0,
                author="desk",
                now=utc_now(),
            )


def ask_for_retraining(ledger: Ledger) -> TrainingJob:
    with ledger.begin() as connection:
        return jobs.request(
            connection,
            model=MODEL,
            cause=RetrainCause.MANUAL,
            reason="a test wants it",
            request={"onset_at": None, "alert": None},
            actor="ada",
            now=utc_now(),
        )
