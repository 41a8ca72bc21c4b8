"""A model trained on the material, and its answers to all the rest: made once, kept in build/bench."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitoring.baseline import Baseline, build_baseline, detector_scores
from monitoring.core.bundle import Bundle
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.signals import SIGNALS, Predictions
from monitoring.signals import Traffic, traffic_of
from tests.benchmarks.material import Material
from tests.benchmarks.trained import bundle_in, train
from tests.benchmarks.verdicts.draws import FAR, NEAR, NONE, Rows, Urns

VALIDATION = "validation"
ENCODED_AT_ONCE = 256
MOMENT = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Scored:
    """Rows of validation, pool and new topics with the model's answers.

    `places`: row numbers by part. `embeddings` (rows, d): of the encoder, whole. `vocabulary`: the training texts.
    """

    classes: tuple[str, ...]
    texts: NDArray[np.str_]
    labels: NDArray[np.str_]
    predictions: Predictions
    embeddings: NDArray[np.float32]
    places: dict[str, Rows]
    vocabulary: NDArray[np.str_]

    @property
    def predicted(self) -> NDArray[np.str_]:
        """Class names (rows,)."""
        return np.asarray(self.classes, dtype=np.str_)[self.predictions.predicted]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Of every row; answers to a new topic are never right."""
        return self.predicted == self.labels

    @property
    def urns(self) -> Urns:
        """What baselines, windows and streams are drawn from."""
        return Urns({topic: self.places[topic] for topic in (NONE, FAR, NEAR)})

    def take(self, rows: Rows) -> Predictions:
        """The answers of those rows."""
        return Predictions(**{name: values[rows] for name, values in vars(self.predictions).items()})

    def baseline(self, size: int, number: int = 0) -> Baseline:
        """The project's baseline on rows drawn from the pool; its bins are made on the validation rows."""
        return self.baseline_of(self.urns.baseline(size, number), seed=number)

    def baseline_of(self, rows: Rows, *, seed: int) -> Baseline:
        """The same on the rows of these numbers."""
        return build_baseline(
            predictions=self.take(rows),
            texts=self.texts[rows].tolist(),
            labels=self.labels[rows].tolist(),
            classes=self.classes,
            edges_from=self.take(self.places[VALIDATION]),
            vocabulary=self.vocabulary.tolist(),
            seed=seed,
        )

    def traffic(self, rows: Rows, *, start: datetime = MOMENT, end: datetime = MOMENT) -> Traffic:
        """Those rows as a window, each from another client."""
        return traffic_of(
            self.take(rows),
            self.classes,
            ids=[str(number) for number in range(len(rows))],
            texts=self.texts[rows].tolist(),
            start=start,
            end=end,
        )

    def detector_scores(self, baseline: Baseline) -> dict[str, NDArray[np.float64]]:
        """What the detector ranks, for every row."""
        return detector_scores(baseline, self.predicted, {name: self.predictions.signal(name) for name in SIGNALS})


def score(material: Material, folder: Path) -> Path:
    """The file of `Scored` for the material, made in `folder` unless it is there. Raises OSError, RuntimeError."""
    home = train(material, folder)
    path = home / "scored.npz"
    if not path.exists():
        print("answering every text once ...", file=sys.stderr, flush=True)
        _write(_answer(material, bundle_in(home)), path)
    return path


@functools.lru_cache(maxsize=1)
def load(path: Path) -> Scored:
    """Read what `score` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Scored(
            classes=tuple(arrays["classes"].tolist()),
            texts=arrays["texts"],
            labels=arrays["labels"],
            predictions=Predictions(**{field.name: arrays[f"p/{field.name}"] for field in fields(Predictions)}),
            embeddings=arrays["embeddings"],
            places={part: arrays[f"places/{part}"] for part in (VALIDATION, NONE, FAR, NEAR)},
            vocabulary=arrays["vocabulary"],
        )


def _answer(material: Material, bundle: Bundle) -> Scored:
    runtime = ClassifierRuntime(bundle, threads=len(os.sched_getaffinity(0)))
    parts = {VALIDATION: material.validation, NONE: material.pool, FAR: material.far, NEAR: material.near}
    rows = [row for part in parts.values() for row in part]
    texts = [text for text, _ in rows]
    ends = np.cumsum([len(part) for part in parts.values()])
    return Scored(
        classes=tuple(bundle.config.labels),
        texts=np.array(texts, dtype=np.str_),
        labels=np.array([label for _, label in rows], dtype=np.str_),
        predictions=runtime.predict(texts),
        embeddings=_embed(runtime, texts),
        places={name: np.arange(end - len(part), end) for (name, part), end in zip(parts.items(), ends, strict=True)},
        vocabulary=np.array([text for text, _ in material.train], dtype=np.str_),
    )


def _embed(runtime: ClassifierRuntime, texts: list[str]) -> NDArray[np.float32]:
    encoded = runtime.encode(texts)
    size = runtime.config.max_batch
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
    parts = [runtime.raw([encoded[row] for row in order[i : i + size]])[1] for i in range(0, len(order), size)]
    return np.concatenate(parts)[np.argsort(np.array(order), kind="stable")]


def _write(scored: Scored, path: Path) -> None:
    arrays = {f"p/{name}": values for name, values in vars(scored.predictions).items()}
    arrays |= {f"places/{name}": rows for name, rows in scored.places.items()}
    arrays |= {name: getattr(scored, name) for name in ("texts", "labels", "embeddings", "vocabulary")}
    unfinished = path.with_suffix(".part.npz")
    np.savez(unfinished, allow_pickle=False, classes=np.array(scored.classes, dtype=np.str_), **arrays)
    unfinished.rename(path)
