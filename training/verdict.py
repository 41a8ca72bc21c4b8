"""The evidence on a trained model: its answers beside the champion's, the gates, and what a person should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.core.bundle import Bundle
from monitoring.core.plain import plain
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.settings import GateSettings
from training.data import HOLDOUT, TRAIN, VALIDATION
from training.evaluate import Answers, measure, slices
from training.gates import Artefact, GateResult, Paired, judge_against_champion, judge_artefact
from training.parity import texts_per_second
from training.precision import Choice, Measurement
from training.snapshot import RECENT_HOLDOUT, Snapshot

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Speed:
    """Milliseconds a text on one thread, in batches as each bundle serves; the champion's measured side by side."""

    candidate_ms: float
    champion_ms: float | None

    @property
    def ratio(self) -> float | None:
        """Candidate over champion."""
        return None if self.champion_ms is None else self.candidate_ms / self.champion_ms


def measure_speed(candidate: Bundle, champion: Bundle | None, texts: Sequence[str]) -> Speed:
    """Time both in this process, in turns."""
    served = [candidate] if champion is None else [candidate, champion]
    rates = texts_per_second([(ClassifierRuntime(one), one.config.max_batch) for one in served], texts)
    milliseconds = [1000.0 / rate for rate in rates]
    return Speed(milliseconds[0], milliseconds[1] if champion is not None else None)


def size_mb(bundle: Bundle) -> float:
    """Megabytes of all files of a bundle."""
    return sum(path.stat().st_size for path in bundle.folder.iterdir()) / MEGABYTE


def run_gates(
    candidate: Answers,
    champion: Answers | None,
    choice: Choice,
    speed: Speed,
    megabytes: float,
    limits: GateSettings,
    *,
    seed: int,
) -> tuple[GateResult, ...]:
    """All gates: those of the artefact, and where there is a champion, those against it."""
    calibration = measure(candidate).ece_debiased
    results = judge_artefact(Artefact(choice, calibration, megabytes, speed.ratio), limits)
    if champion is None:
        return results
    known = np.isin(np.array(candidate.part.labels, dtype=np.str_), champion.classes)
    old = _paired(candidate, champion, candidate.part.within(HOLDOUT) & known)
    recent = _paired(candidate, champion, candidate.part.within(RECENT_HOLDOUT))
    return judge_against_champion(old, recent, limits, seed=seed) + results


def evidence(
    *,
    gates: Sequence[GateResult],
    candidate: Answers,
    champion: Answers | None,
    choice: Choice,
    measured: Sequence[Measurement],
    speed: Speed,
    megabytes: float,
    snapshot: Snapshot,
    temperature: float,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """All of it as plain JSON, for the ledger, the console and the bundle; nan becomes null."""
    counts = snapshot.counts()
    parts = {"old hold-out": candidate.part.within(HOLDOUT), "recent hold-out": candidate.part.within(RECENT_HOLDOUT)}
    found = {
        "gates": gates,
        "metrics": {"candidate": measure(candidate), "champion": None if champion is None else measure(champion)},
        "slices": slices(candidate, champion, parts),
        "parity": {**vars(choice), "temperature": temperature, "offers": measured},
        "cost": {
            "train_seconds": seconds["fine-tune"],
            "total_seconds": round(sum(seconds.values()), 3),
            "steps": seconds,
            "labels_used": counts[TRAIN] + counts[VALIDATION],
            "size_mb": round(megabytes, 1),
            "latency_ms": round(speed.candidate_ms, 3),
            "champion_latency_ms": speed.champion_ms,
        },
        "changes": {
            "classes_added": snapshot.classes_added,
            "classes_waiting": snapshot.classes_waiting or {},
            "new_labels": snapshot.new_labels,
            "train_rows": counts[TRAIN],
            "rows": counts,
        },
    }
    return dict(plain(found))


def _paired(candidate: Answers, champion: Answers, rows: NDArray[np.bool_]) -> Paired:
    part = candidate.part.take(np.flatnonzero(rows))
    return Paired(candidate.correct[rows], champion.correct[rows], part.weights, part.units)
