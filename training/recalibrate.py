"""Recalibration: the champion again, with another temperature. The cheap cure where confidences alone went wrong.

The temperature is fitted to recent outcome-blind labels of some callers and judged on those of others, the same callers
that no retraining ever learns from. What the baseline's rows were answered with changes with it, so the baseline is
made anew, from the same texts: those of the hold-out, or of the span that was made the champion's baseline since
(`inherited`). What a confidence is worth is read from the recent labels, for they are what it was fitted to. Everything
else is the champion's, file by file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.baseline import Baseline
from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle
from monitoring.core.errors import InvalidInput, MisConfigured
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.types import ModelVersion, TrainingJob
from training.card import recalibration_card
from training.data import HOLDOUT, VALIDATION
from training.draft import freeze_baseline, refit_temperature
from training.evaluate import judge
from training.gates import judge_recalibration
from training.inherited import inherit_baseline, span_in_force
from training.logits import raw_outputs
from training.plan import Workshop, champion_of, onset_of
from training.progress import Steps
from training.recalibration import Answered, known_rows, measure_recalibration, recalibrated
from training.recent import RecentPrediction, labelled_row, read_recent, unit_share
from training.snapshot import RECENT_HOLDOUT, RECENT_UNLABELLED, Row, Snapshot, load, store
from training.trained import Conclude, Trained, code_version, register

MAX_LABELS = 5_000
LEAST_FITTED = 50


@dataclass(frozen=True)
class Recalibration:
    """One recalibration, fully determined: `recent` has the rows to fit (validation) and to judge (recent_holdout)."""

    champion: ModelVersion
    parent: Snapshot
    recent: Snapshot


def plan_recalibration(job: TrainingJob, workshop: Workshop) -> Recalibration:
    """Gather the newest 5,000 outcome-blind labels since calibration was lost, or since it was last fitted.

    Raises Conflict, InvalidInput where there are too few to fit or to judge, or MisConfigured.
    """
    champion = champion_of(job.model, workshop.ledger)
    lineage = champion.lineage
    for key in ("snapshot", "as_of"):
        if not lineage.get(key):
            raise InvalidInput(f"{champion.name} cannot be recalibrated: its lineage lacks {key!r}", field=key)
    if workshop.settings.log.text != "store":
        raise MisConfigured(
            "recalibration needs the texts of recent traffic: set log.text to 'store'", field="log.text"
        )
    as_of = workshop.clock()
    fitted_at = datetime.fromisoformat((lineage.get("recalibration") or lineage)["as_of"])
    onset = onset_of(job.request)
    found = read_recent(
        workshop.ledger, PredictionLog(workshop.settings.log_url), job.model, since=fitted_at, as_of=as_of
    )
    told = [one for one in found if one.truth is not None and (onset is None or one.at >= onset)][-MAX_LABELS:]
    recent = Snapshot(
        rows=tuple(_row(one, workshop.settings.retrain.holdout_fraction) for one in told),
        classes=champion.labels,
        as_of=as_of,
        parent=lineage["snapshot"],
    )
    _require_labels(recent, workshop.settings.gates.min_recent)
    parent = load(workshop.storage, lineage["snapshot"], cache=workshop.settings.cache_dir)
    return Recalibration(champion, parent, recent)


def recalibrate(plan: Recalibration, workshop: Workshop, *, actor: str, conclude: Conclude | None = None) -> Trained:
    """Fit, prove and register the champion's next version. `conclude` runs in the registering transaction."""
    champion, steps = plan.champion, Steps(workshop.report)
    seed = int(champion.lineage.get("seed") or 0)
    with tempfile.TemporaryDirectory(prefix="leeway-training-") as scratch:
        folder = Path(scratch) / "bundle"
        with steps.step("snapshot"):
            stored = store(workshop.storage, plan.recent)
            old = workshop.registry.fetch(champion)
        with steps.step("calibrate"):
            runtime = ClassifierRuntime(old)
            temperature = _fit(runtime, plan.recent)
            lineage = _lineage(plan, temperature, snapshot=stored.name, data_hash=stored.data_hash)
            shutil.copytree(old.folder, folder, ignore=shutil.ignore_patterns(bundles.MANIFEST))
            draft = Bundle(folder, replace(old.config, temperature=temperature, lineage=lineage), hash="")
        with steps.step("baseline"):
            held_out = plan.parent.part(HOLDOUT, RECENT_HOLDOUT, RECENT_UNLABELLED)
            answering = ClassifierRuntime(draft)
            predictions = answering.predict(held_out.texts)
            edges_from = answering.predict(plan.parent.part(VALIDATION).texts)
            freeze_baseline(draft, plan.parent, held_out, predictions, validation=edges_from, seed=seed)
            if (span := span_in_force(champion, workshop)) is not None:
                draft = _made_of(draft, inherit_baseline(draft, span, workshop, seed=seed))
        with steps.step("evaluate"):
            judged = plan.recent.part(RECENT_HOLDOUT)
            recent = Answered(
                judge(runtime.predict(judged.texts), champion.labels, judged),
                judge(answering.predict(judged.texts), champion.labels, judged),
            )
            before = judge(runtime.predict(held_out.texts), champion.labels, held_out)
            kept = Answered(before, judge(predictions, champion.labels, held_out))
            _revalue(draft, recent)
        with steps.step("gates"):
            gates = judge_recalibration(recalibrated(recent), workshop.settings.gates)
            proof = measure_recalibration(
                gates=gates,
                recent=recent,
                old=kept,
                temperatures=(old.config.temperature, temperature),
                rows=plan.recent.counts(),
                parity=champion.evidence.get("parity"),
                seconds=steps.seconds,
                rng=np.random.default_rng(seed),
            )
        with steps.step("register"):
            card = recalibration_card(draft.config, proof, _text(old, bundles.CARD))
            return register(draft, card, gates, proof, workshop, actor=actor, conclude=conclude)


def _row(prediction: RecentPrediction, holdout_fraction: float) -> Row:
    """Judged, if its caller belongs to the hold-out of every retraining; else fitted."""
    assert prediction.truth is not None
    split = RECENT_HOLDOUT if unit_share(prediction.unit) < holdout_fraction else VALIDATION
    return labelled_row(prediction, prediction.truth, split, 1.0 / prediction.truth.sampling_probability)


def _require_labels(recent: Snapshot, least_judged: int) -> None:
    counts = recent.counts()
    fitted, judged = len(known_rows(recent.part(VALIDATION), recent.classes)), counts[RECENT_HOLDOUT]
    if fitted < LEAST_FITTED or judged < least_judged:
        raise InvalidInput(
            f"too few recent outcome-blind labels to recalibrate with: {fitted} of {LEAST_FITTED} to fit on, {judged} "
            f"of {least_judged} of other callers to judge by; collect more labels",
            field="labels",
        )


def _fit(runtime: ClassifierRuntime, recent: Snapshot) -> float:
    part = recent.part(VALIDATION)
    part = part.take(known_rows(part, recent.classes))
    number = {label: place for place, label in enumerate(recent.classes)}
    labels = np.array([number[label] for label in part.labels if label is not None], dtype=np.int64)
    logits = raw_outputs(runtime, runtime.encode(part.texts), runtime.config.max_batch)[0]
    return refit_temperature(logits, labels, part.weights, runtime.config.temperature)


def _lineage(plan: Recalibration, temperature: float, *, snapshot: str, data_hash: str) -> Mapping[str, Any]:
    """The champion's own, for its data and its training are this version's too; and what was done to it."""
    counts = plan.recent.counts()
    return {
        **plan.champion.lineage,
        "cause": "calibration",
        "parent": plan.champion.id,
        "code_version": code_version(),
        "classes_added": [],
        "classes_waiting": {},
        "new_labels": 0,
        "recalibration": {
            "of": plan.champion.name,
            "temperature": temperature,
            "snapshot": snapshot,
            "data_hash": data_hash,
            "as_of": plan.recent.as_of.isoformat(),
            "fitted": counts[VALIDATION],
            "judged": counts[RECENT_HOLDOUT],
        },
    }


def _made_of(draft: Bundle, told: Mapping[str, Any]) -> Bundle:
    """What the baseline is made of goes into the lineage; a later recalibration goes on from there."""
    lineage = draft.config.lineage
    kept = {**lineage, "recalibration": {**lineage["recalibration"], "baseline": told}}
    return replace(draft, config=replace(draft.config, lineage=kept))


def _revalue(draft: Bundle, recent: Answered) -> None:
    path, after = draft.path(bundles.BASELINE), recent.after
    baseline = Baseline.load(path)
    baseline.revalued(after.predictions.confidence, after.correct, after.part.weights).save(path)


def _text(bundle: Bundle, name: str) -> str:
    path = bundle.path(name)
    return path.read_text() if path.exists() else ""
