"""What is to be trained: planned from a labelled file, or from a job and what came in since the last training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitoring.core.errors import Conflict, InvalidInput, MisConfigured
from monitoring.core.ledger import versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.registry import Registry
from monitoring.core.settings import Settings
from monitoring.core.storage import Storage
from monitoring.core.types import Clock, ModelVersion, RetrainCause, TrainingJob
from training.data import LabelledData
from training.progress import Progress
from training.recent import DivisionPolicy, next_snapshot, read_corrections, read_recent
from training.recipe import Recipe
from training.snapshot import Snapshot, first_snapshot, load


@dataclass(frozen=True)
class Workshop:
    """What training works with, handed in by the command or the worker."""

    settings: Settings
    ledger: Ledger
    registry: Registry
    clock: Clock
    report: Progress

    @property
    def storage(self) -> Storage:
        """Where snapshots and bundles are kept."""
        return Storage(self.settings.store_url)


@dataclass(frozen=True)
class Plan:
    """One training, fully determined. `champion` is what the result must beat; None for a model's first version."""

    model: str
    snapshot: Snapshot
    base: str
    recipe: Recipe
    seed: int
    cause: str
    champion: ModelVersion | None


def plan_first(
    data: LabelledData, splits: Sequence[str], *, model: str, base: str, recipe: Recipe, seed: int, workshop: Workshop
) -> Plan:
    """Train from a labelled file alone. No champion is compared with: it may have been trained on these rows."""
    with workshop.ledger.read() as connection:
        cause = RetrainCause.MANUAL if versions.find(connection, model=model) else "initial"
    snapshot = first_snapshot(data, splits, as_of=workshop.clock())
    return Plan(model, snapshot, base, recipe, seed, cause, champion=None)


def plan_retraining(job: TrainingJob, workshop: Workshop) -> Plan:
    """Train on the champion's data plus what was labelled since. Raises Conflict, InvalidInput or MisConfigured."""
    champion = champion_of(job.model, workshop.ledger)
    lineage = champion.lineage
    for key in ("snapshot", "as_of", "base_model", "recipe"):
        if not lineage.get(key):
            raise InvalidInput(f"{champion.name} cannot be retrained: its lineage lacks {key!r}", field=key)
    if workshop.settings.log.text != "store":
        raise MisConfigured("retraining needs the texts of recent traffic: set log.text to 'store'", field="log.text")
    as_of = workshop.clock()
    recent = read_recent(
        workshop.ledger,
        PredictionLog(workshop.settings.log_url),
        job.model,
        since=datetime.fromisoformat(lineage["as_of"]),
        as_of=as_of,
    )
    parent = load(workshop.storage, lineage["snapshot"], cache=workshop.settings.cache_dir)
    corrections = read_corrections(workshop.ledger, parent, as_of=as_of)
    if not corrections and all(prediction.label is None for prediction in recent):
        raise InvalidInput(f"there is nothing new to learn: no label has come since {champion.name} was trained")
    retrain = workshop.settings.retrain
    snapshot = next_snapshot(
        parent,
        lineage["snapshot"],
        recent,
        DivisionPolicy(retrain.holdout_fraction, retrain.new_class_examples),
        corrections=corrections,
        onset_at=onset_of(job.request),
        as_of=as_of,
    )
    recipe = _recipe(retrain.recipe, lineage["recipe"])
    return Plan(job.model, snapshot, lineage["base_model"], recipe, int(lineage["seed"]), job.cause, champion)


def champion_of(model: str, ledger: Ledger) -> ModelVersion:
    """The version in production. Raises Conflict where there is none."""
    with ledger.read() as connection:
        state = versions.model_state(connection, model)
        if state.production is None:
            raise Conflict(f"{model} has no version in production to start from; approve one first")
        return versions.get(connection, state.production)


def _recipe(method: str, parents: Mapping[str, Any]) -> Recipe:
    """The champion's own recipe where the settings ask for its method, else that method's defaults."""
    if parents.get("method") == method:
        return Recipe.model_validate(parents)
    return Recipe.for_method(method, max_tokens=parents.get("max_tokens"))


def onset_of(request: Mapping[str, Any]) -> datetime | None:
    """When what the job is about began, if the one who asked knew."""
    onset = request.get("onset_at")
    return None if onset is None else datetime.fromisoformat(onset)
