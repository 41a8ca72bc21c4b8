"""The pipeline: every step from data to a registered candidate, in order."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monitoring.core.errors import InvalidInput
from monitoring.core.runtime import ClassifierRuntime
from training import classifier
from training import export as exporting
from training.card import model_card
from training.data import HOLDOUT, TRAIN, VALIDATION
from training.draft import calibrate, first_config, freeze_baseline, learn_reference
from training.encoder import Base, resolve
from training.evaluate import judge
from training.export import export, keep_only, open_draft
from training.finetune import LabelledTexts, fine_tune
from training.parity import measure_precisions
from training.plan import Plan, Workshop
from training.progress import Steps
from training.snapshot import RECENT_HOLDOUT, RECENT_UNLABELLED, Part, Snapshot, StoredSnapshot, store
from training.trained import Conclude, Trained, code_version, register
from training.verdict import evidence, measure_speed, run_gates, size_mb

PARITY_TEXTS = 400


def run(plan: Plan, workshop: Workshop, *, actor: str, conclude: Conclude | None = None) -> Trained:
    """Train, prove and register one version. `conclude` runs in the registering transaction."""
    snapshot, seed = plan.snapshot, plan.seed
    _require_rows(snapshot)
    steps = Steps(workshop.report)
    with tempfile.TemporaryDirectory(prefix="leeway-training-") as scratch:
        folder = Path(scratch)
        with steps.step("snapshot"):
            stored = store(workshop.storage, snapshot)
            base = resolve(plan.base)
            lineage = _lineage(plan, stored, base)
        with steps.step("fine-tune") as share:
            train, validation = _texts(snapshot.part(TRAIN)), _texts(snapshot.part(VALIDATION))
            tuned = fine_tune(base, train, validation, snapshot.classes, plan.recipe, seed=seed, report=share)
        with steps.step("export"):
            frozen = plan.recipe.method == "head"
            export(
                tuned,
                folder,
                train.texts,
                frozen_graph=_graph_path(base, tuned.max_tokens, workshop) if frozen else None,
            )
            draft = open_draft(folder, first_config(plan.model, snapshot, tuned, lineage))
        with steps.step("calibrate"):
            draft = calibrate(draft, snapshot)
        with steps.step("parity"):
            sample = _sample(snapshot.part(VALIDATION, HOLDOUT, RECENT_HOLDOUT), seed)
            choice, measured = measure_precisions(
                draft, tuned, sample.texts, sample.labels, workshop.settings.gates, seed=seed
            )
            draft = calibrate(draft, snapshot, choice)
            keep_only(folder, choice.precision)
        with steps.step("baseline"):
            learn_reference(draft, snapshot, seed=seed)
            runtime = ClassifierRuntime(draft)
            held_out = snapshot.part(HOLDOUT, RECENT_HOLDOUT, RECENT_UNLABELLED)
            predictions = runtime.predict(held_out.texts)
            edges_from = runtime.predict(snapshot.part(VALIDATION).texts)
            freeze_baseline(draft, snapshot, held_out, predictions, validation=edges_from, seed=seed)
        with steps.step("evaluate"):
            candidate = judge(predictions, snapshot.classes, held_out)
            champion = None if plan.champion is None else workshop.registry.fetch(plan.champion)
            rival = None
            if champion is not None:
                answers = ClassifierRuntime(champion).predict(candidate.part.texts)
                rival = judge(answers, champion.config.labels, candidate.part)
            speed = measure_speed(draft, champion, sample.texts)
        with steps.step("gates"):
            megabytes = size_mb(draft)
            gates = run_gates(candidate, rival, choice, speed, megabytes, workshop.settings.gates, seed=seed)
            proof = evidence(
                gates=gates,
                candidate=candidate,
                champion=rival,
                choice=choice,
                measured=measured,
                speed=speed,
                megabytes=megabytes,
                snapshot=snapshot,
                temperature=draft.config.temperature,
                seconds=steps.seconds,
            )
        with steps.step("register"):
            return register(
                draft, model_card(draft.config, proof), gates, proof, workshop, actor=actor, conclude=conclude
            )


def _require_rows(snapshot: Snapshot) -> None:
    counts = snapshot.counts()
    for name in (TRAIN, VALIDATION, HOLDOUT):
        if counts[name] == 0:
            raise InvalidInput(f"there are no {name} rows: give more labelled rows of each class", field="data")


def _lineage(plan: Plan, stored: StoredSnapshot, base: Base) -> dict[str, Any]:
    snapshot = plan.snapshot
    return {
        "data_hash": stored.data_hash,
        "snapshot": stored.name,
        "as_of": snapshot.as_of.isoformat(),
        "code_version": code_version(),
        "base_model": base.spec,
        "base_revision": base.revision,
        "recipe": plan.recipe.model_dump(),
        "seed": plan.seed,
        "cause": plan.cause,
        "parent": None if plan.champion is None else plan.champion.id,
        "classes_added": list(snapshot.classes_added),
        "classes_waiting": dict(snapshot.classes_waiting or {}),
        "new_labels": snapshot.new_labels,
    }


def _graph_path(base: Base, max_tokens: int, workshop: Workshop) -> Path:
    """Where the frozen encoder's graph is kept: its name changes with all that goes into it."""
    made_of = hashlib.sha256(f"{base.revision}\0{max_tokens}\0{torch.__version__}\0".encode())
    for module in (classifier, exporting):
        made_of.update(Path(str(module.__file__)).read_bytes())
    return workshop.settings.cache_dir / "graphs" / f"{made_of.hexdigest()[:20]}.onnx"


def _texts(part: Part) -> LabelledTexts:
    return LabelledTexts(part.texts, [label for label in part.labels if label is not None])


def _sample(part: Part, seed: int) -> Part:
    return part.take(np.random.default_rng(seed).permutation(len(part))[:PARITY_TEXTS])
