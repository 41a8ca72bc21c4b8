"""What a version's traffic is compared with: its answers to rows that it was never trained on, frozen at its birth."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from monitoring.core.errors import BrokenBundle, InvalidInput
from monitoring.core.signals import PROJECTED, SIGNALS, Floats, Predictions
from monitoring.core.types import Interval
from monitoring.signals import DETECTOR_SCORES, DOUBT, STRANGE, WordCounts, novelty
from monitoring.stats.binning import count_bins
from monitoring.stats.calibration import debiased_ece, smooth_ece, top_label_brier, wilson_interval
from monitoring.stats.cycle import WeeklyHistogram
from monitoring.stats.design_effect import shared_worth
from monitoring.stats.estimation import AccuracyEstimator
from monitoring.stats.logistic import logistic_posterior
from monitoring.stats.sequential import bin_edges
from monitoring.stats.strangeness import Strangeness
from monitoring.stats.two_sample import FeatureMoments, RandomFeatures, median_bandwidth

FORMAT = 1
MAX_ROWS = 20_000
MAX_SAMPLE = 1_500
FEATURES = 128
LEAST_TO_WHITEN = 2 * FEATURES
ESTIMATOR_SIGNALS = ("confidence", "entropy", "margin", "similarity")


@dataclass(frozen=True)
class Baseline:
    """All that judging traffic needs; bounded, whatever the size of the hold-out.

    `signals`: each of SIGNALS, and `vocabulary`, the share of unknown words in a text; (n,) each. `class_counts` (k,):
    predicted classes of the n rows. `surprise` (k,): -ln of a predicted class's frequency among the validation rows.
    `edges`: bins of each of DETECTOR_SCORES, frozen on the validation rows like `strangeness`, so that the n rows and
    the traffic stay exchangeable. `features` turn projected embeddings into FEATURES numbers, of which the rows have
    these `moments`.
    `words`: how often the training texts use their commonest 20,000 words, of `total_words` in all; `phrases`: pairs of
    words, of which 10,000. `sample` (m, PROJECTED): projected embeddings of a random 1,500 of the rows. `accuracy` and
    `calibration` are those of the hold-out's `labelled` rows, nan without; `meaning` (2,) what a confidence was worth
    among them: intercept and slope of the log-odds of being right on those of the confidence. `worth`: how many
    independent rows one of the n is worth, less than 1 where they are traffic of returning clients.

    Where the rows are traffic, `own_words` are those of their texts, where these are kept, and `week` counts the scores
    of their whole span by hour of the week, in the bins of `edges`: a detector begins with it.
    """

    classes: tuple[str, ...]
    n: int
    labelled: int
    accuracy: Interval
    calibration: Mapping[str, float]
    meaning: Floats
    signals: Mapping[str, Floats]
    class_counts: NDArray[np.int64]
    surprise: Floats
    strangeness: Strangeness
    edges: Mapping[str, Floats]
    features: RandomFeatures
    moments: FeatureMoments
    estimator: AccuracyEstimator
    words: Mapping[str, int]
    total_words: int
    phrases: Mapping[str, int]
    total_phrases: int
    sample: NDArray[np.float16]
    worth: float = 1.0
    own_words: WordCounts | None = None
    week: WeeklyHistogram | None = None

    @property
    def usual_words(self) -> WordCounts:
        """What the words of traffic are held against: those of the rows' own texts, or else the training texts'."""
        return self.own_words or WordCounts(self.words, self.total_words, self.phrases, self.total_phrases)

    @property
    def expected_accuracy(self) -> float:
        """Accuracy of the labelled rows; without any, what the estimator expects."""
        return self.accuracy.value if self.labelled else self.estimator.baseline_accuracy

    @cached_property
    def strangeness_counts(self) -> NDArray[np.int64]:
        """How many of the rows fall into each bin of strangeness; counted once, since every window asks."""
        return count_bins(self.strangeness(self.signals), self.edges["strangeness"])

    @cached_property
    def surprise_of(self) -> Mapping[str, float]:
        """`surprise` by the name of the class; looked up for every prediction."""
        return dict(zip(self.classes, self.surprise.tolist(), strict=True))

    def accuracy_at(self, confidence: Floats) -> Floats:
        """How often answers of that confidence (n,) are right, by the labelled rows."""
        return np.asarray(expit(_with_log_odds(confidence) @ self.meaning))

    def shared_worth(self, rows: int, own: float, reference: float | None = None) -> float:
        """What one of `rows` to be tested, each worth `own`, is worth once what the baseline lacks is taken from it.

        The tests take the baseline's rows for independent; `reference`: what they are worth, if not `self.worth`.
        """
        return shared_worth(rows, own, self.n, self.worth if reference is None else reference)

    def revalued(self, confidence: Floats, correct: NDArray[np.bool_], weights: Floats) -> Baseline:
        """The same rows, but what a confidence is worth read from other labelled answers (n,): a recalibration's.

        `weights`: inverse sampling probabilities. Signals, and the accuracy that is to be kept, stay as they are.
        """
        return replace(
            self, meaning=_meaning(confidence, correct, weights), calibration=calibration_of(confidence, correct)
        )

    def scores(self) -> dict[str, Floats]:
        """The rows' own DETECTOR_SCORES, (n,) each: what the detector ranks traffic against."""
        surprise = np.repeat(self.surprise, self.class_counts)  # the order of rows does not matter to ranks
        return _detector_scores(self.strangeness, surprise, self.signals)

    def to_bytes(self) -> bytes:
        """As npz: numbers as arrays, words as JSON."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **_to_arrays(self))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, known_as: str) -> Baseline:
        """Read from npz, `known_as` in messages. Raises BrokenBundle."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return _from_arrays(arrays)
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise BrokenBundle(f"{known_as} is not a baseline that this version reads: {error}") from error

    def save(self, path: Path) -> None:
        """Write to a file."""
        path.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Read from a file. Raises BrokenBundle."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BrokenBundle(f"{path} is not a baseline that this version reads: {error}") from error
        return cls.from_bytes(content, known_as=str(path))


def build_baseline(
    *,
    predictions: Predictions,
    texts: Sequence[str],
    labels: Sequence[str | None],
    classes: Sequence[str],
    edges_from: Predictions,
    vocabulary: Sequence[str],
    seed: int,
) -> Baseline:
    """Freeze the hold-out's `predictions`, with their `texts` and `labels` (None: unlabelled), as a baseline.

    `edges_from`: the validation rows' predictions, which fix bins and class frequencies apart from the hold-out.
    `vocabulary`: the training texts. Of more than 20,000 rows a random 20,000 are kept. Raises InvalidInput where
    there are too few rows or the inputs differ in length.
    """
    if not len(predictions) == len(texts) == len(labels):
        sizes = f"{len(predictions)} predictions, {len(texts)} texts, {len(labels)} labels"
        raise InvalidInput(f"a baseline needs a text and a label (or None) for each prediction: {sizes}", field="texts")
    if len(predictions) < 2 or len(edges_from) == 0:
        raise InvalidInput("a baseline needs hold-out and validation rows: give more data", field="predictions")
    rng = np.random.default_rng(seed)
    kept = _sample(len(predictions), MAX_ROWS, rng)
    training = WordCounts.of(vocabulary)
    signals = {name: predictions.signal(name)[kept] for name in SIGNALS}
    signals["vocabulary"] = novelty((texts[row] for row in kept), training.words)
    surprise = _surprise(edges_from.predicted, len(classes))
    apart = {name: edges_from.signal(name) for name in SIGNALS}
    strangeness = Strangeness.of(apart, STRANGE)
    validation = _detector_scores(strangeness, surprise[edges_from.predicted], apart)
    is_labelled = np.array([labels[row] is not None for row in kept])
    answers = np.asarray(classes, dtype=np.str_)[predictions.predicted[kept]]
    correct = (answers == np.array([labels[row] or "" for row in kept], dtype=np.str_))[is_labelled]
    table = _estimator_table(strangeness, signals)
    projected = predictions.projected[kept].astype(np.float32)
    features = RandomFeatures.make(projected.shape[1], FEATURES, median_bandwidth(projected, rng), rng)
    if len(edges_from) >= LEAST_TO_WHITEN:
        features = features.whitened(edges_from.projected.astype(np.float32))
    return Baseline(
        classes=tuple(classes),
        n=len(kept),
        labelled=len(correct),
        accuracy=_accuracy(correct),
        calibration=calibration_of(signals["confidence"][is_labelled], correct),
        meaning=_meaning(signals["confidence"][is_labelled], correct),
        signals=signals,
        class_counts=np.bincount(predictions.predicted[kept], minlength=len(classes)),
        surprise=surprise,
        strangeness=strangeness,
        edges={name: bin_edges(values) for name, values in validation.items()},
        features=features,
        moments=FeatureMoments.of(features.transform(projected)),
        estimator=AccuracyEstimator.fit(table[is_labelled], correct, reference=table),
        words=training.words,
        total_words=training.total_words,
        phrases=training.phrases,
        total_phrases=training.total_phrases,
        sample=projected[_sample(len(projected), MAX_SAMPLE, rng)].astype(np.float16),
    )


def detector_scores(
    baseline: Baseline, predicted: NDArray[np.str_], signals: Mapping[str, Floats]
) -> dict[str, Floats]:
    """DETECTOR_SCORES of n answers, (n,) each, from their class names and SIGNALS; an unknown class surprises most."""
    most = float(baseline.surprise.max())
    surprise = np.array([baseline.surprise_of.get(name, most) for name in predicted.tolist()], dtype=np.float64)
    return _detector_scores(baseline.strangeness, surprise, signals)


def estimator_table(baseline: Baseline, signals: Mapping[str, Floats]) -> Floats:
    """The signals (n, 5) that the accuracy estimator reads, that of doubt the last."""
    return _estimator_table(baseline.strangeness, signals)


def calibration_of(confidence: Floats, correct: NDArray[np.bool_]) -> dict[str, float]:
    """Calibration of labelled rows by the measures that few rows do not mislead; nan without rows."""
    return {
        "ece_debiased": debiased_ece(confidence, correct),
        "smece": smooth_ece(confidence, correct),
        "brier": top_label_brier(confidence, correct),
    }


def _detector_scores(strangeness: Strangeness, surprise: Floats, signals: Mapping[str, Floats]) -> dict[str, Floats]:
    combined = {"strangeness": strangeness(signals), "surprise": surprise}
    return {name: combined[name] if name in combined else signals[name] for name in DETECTOR_SCORES}


def _estimator_table(strangeness: Strangeness, signals: Mapping[str, Floats]) -> Floats:
    return np.column_stack([*(signals[name] for name in ESTIMATOR_SIGNALS), strangeness(signals, among=DOUBT)])


def _accuracy(correct: NDArray[np.bool_]) -> Interval:
    if len(correct) == 0:
        return Interval(float("nan"), 0.0, 1.0)
    share = float(correct.mean())
    return Interval(share, *wilson_interval(share, len(correct)))


def _meaning(confidence: Floats, correct: NDArray[np.bool_], weights: Floats | None = None) -> Floats:
    """Platt's scaling ("Probabilistic outputs for support vector machines", 1999), shrunk towards the identity."""
    weights = np.ones(len(correct)) if weights is None else weights / weights.mean()
    identity = np.array([0.0, 1.0])
    return logistic_posterior(_with_log_odds(confidence), correct.astype(np.float64), weights, identity, np.eye(2)).mean


def _with_log_odds(confidence: Floats) -> Floats:
    return np.column_stack([np.ones(len(confidence)), logit(np.clip(confidence, 1e-4, 1.0 - 1e-4))])


def _surprise(predicted: NDArray[np.int64], classes: int) -> Floats:
    """-ln of each class's frequency, (classes,); half a row added to each, so that an unseen one stays finite."""
    counts = np.bincount(predicted, minlength=classes) + 0.5
    return np.asarray(-np.log(counts / counts.sum()))


def _sample(rows: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """All row numbers, or a random `most` of them."""
    return np.arange(rows) if rows <= most else np.sort(rng.choice(rows, size=most, replace=False))


def _to_arrays(baseline: Baseline) -> dict[str, NDArray[Any]]:
    text = {
        "format": FORMAT,
        "classes": baseline.classes,
        "words": dict(baseline.words),
        "total_words": baseline.total_words,
        "phrases": dict(baseline.phrases),
        "total_phrases": baseline.total_phrases,
        "labelled": baseline.labelled,
        "worth": baseline.worth,
        "accuracy": vars(baseline.accuracy),
        "calibration": dict(baseline.calibration),
        "own_words": None if baseline.own_words is None else vars(baseline.own_words),
    }
    groups: dict[str, Mapping[str, NDArray[Any]]] = {
        "signals": baseline.signals,
        "edges": baseline.edges,
        "strangeness": baseline.strangeness.to_arrays(),
        "moments": {"mean": baseline.moments.mean, "covariance": baseline.moments.covariance},
        "estimator": baseline.estimator.to_arrays(),
        "features": baseline.features.to_arrays(),
        "week": {} if baseline.week is None else baseline.week.to_arrays(),
    }
    arrays = {f"{group}/{name}": values for group, members in groups.items() for name, values in members.items()}
    return arrays | {
        "class_counts": baseline.class_counts,
        "surprise": baseline.surprise,
        "meaning": baseline.meaning,
        "sample": baseline.sample,
        "text": np.frombuffer(json.dumps(text).encode(), dtype=np.uint8),
    }


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Baseline:
    text = json.loads(arrays["text"].tobytes())
    if text["format"] != FORMAT:
        raise ValueError(f"format {text['format']!r} instead of {FORMAT}")

    def group(name: str) -> dict[str, NDArray[Any]]:
        return {key.removeprefix(f"{name}/"): arrays[key] for key in arrays if key.startswith(f"{name}/")}

    n, week, own_words = int(arrays["class_counts"].sum()), group("week"), text.get("own_words")
    return Baseline(
        classes=tuple(text["classes"]),
        n=n,
        labelled=int(text["labelled"]),
        accuracy=Interval(**text["accuracy"]),
        calibration=text["calibration"],
        meaning=arrays["meaning"],
        signals=group("signals"),
        class_counts=arrays["class_counts"],
        surprise=arrays["surprise"],
        strangeness=Strangeness.from_arrays(group("strangeness"), STRANGE),
        edges=group("edges"),
        features=RandomFeatures.from_arrays(group("features")),
        moments=FeatureMoments(n, **group("moments")),
        estimator=AccuracyEstimator.from_arrays(group("estimator")),
        words=text["words"],
        total_words=int(text["total_words"]),
        phrases=text.get("phrases", {}),  # a baseline of before explains a little less
        total_phrases=int(text.get("total_phrases", 0)),
        sample=arrays["sample"] if "sample" in arrays else np.empty((0, PROJECTED), dtype=np.float16),
        worth=float(text.get("worth", 1.0)),
        own_words=WordCounts(**own_words) if own_words else None,
        week=WeeklyHistogram.from_arrays(week) if week else None,
    )
