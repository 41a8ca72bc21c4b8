"""What moved, in words a person can act on: classes, words, length, texts to look at. Bounded, whatever the window."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monitoring.baseline import Baseline
from monitoring.signals import Traffic, words

MAX_CLASSES = 5
MAX_MOVED_WORDS = 10
MAX_EXAMPLES = 5
MAX_EXAMPLE_LETTERS = 200
LEAST_TEXTS = 3
SURE = 10.83  # of a chi-squared variable with one degree of freedom, 0.1 % exceed this


def explain(baseline: Baseline, window: Traffic) -> dict[str, Any]:
    """What distinguishes the window from its baseline, strongest first; plain values, ready for JSON.

    classes: [{class, baseline, window}] shares of the predicted classes that moved most; words: [{word, texts, per_10k,
    baseline_per_10k}] that are new or much more frequent; length: medians in tokens; examples: [{id, text}] least like
    the baseline. `words` is empty where texts are not kept.
    """
    return {
        "classes": moved_classes(baseline, window),
        "words": moved_words(baseline.words, baseline.total_words, window.texts),
        "length": {
            "baseline": float(np.median(baseline.signals["length"])),
            "window": float(np.median(window.signals["length"])),
        },
        "examples": examples(window),
    }


def moved_classes(baseline: Baseline, window: Traffic) -> list[dict[str, Any]]:
    """The predicted classes whose share changed most for the size of its chance variation."""
    expected = dict(zip(baseline.classes, (baseline.class_counts / baseline.n).tolist(), strict=True))
    counts = Counter(window.predicted.tolist())
    shares = {name: counts[name] / len(window) for name in expected | counts}

    def standardised(name: str) -> float:
        usual = expected.get(name, 0.0)
        pooled = (usual * baseline.n + counts[name] + 0.5) / (baseline.n + len(window) + 1.0)
        return float(abs(shares[name] - usual) / math.sqrt(pooled * (1.0 - pooled)))

    strongest = sorted(shares, key=lambda name: (-standardised(name), name))[:MAX_CLASSES]
    return [{"class": name, "baseline": expected.get(name, 0.0), "window": shares[name]} for name in strongest]


def moved_words(known: Mapping[str, int], total: int, texts: Sequence[str | None]) -> list[dict[str, Any]]:
    """Words that the texts use significantly more often than the `known` counts out of `total` would have it.

    Ranked by Dunning's log-likelihood ratio ("Accurate methods for the statistics of surprise and coincidence", 1993);
    a word must occur in three texts, so that one odd text does not speak for all.
    """
    spread: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for text in texts:
        text_words = words(text or "")
        counts.update(text_words)
        spread.update(set(text_words))
    size = counts.total()
    scores = {
        word: log_likelihood_ratio(count, size, known.get(word, 0), total)
        for word, count in counts.items()
        if spread[word] >= LEAST_TEXTS and count * total > known.get(word, 0) * size
    }
    strongest = sorted((word for word in scores if scores[word] > SURE), key=lambda word: (-scores[word], word))
    return [
        {
            "word": word,
            "texts": spread[word],
            "per_10k": 10_000 * counts[word] / size,
            "baseline_per_10k": 10_000 * known.get(word, 0) / max(total, 1),
        }
        for word in strongest[:MAX_MOVED_WORDS]
    ]


def log_likelihood_ratio(count: int, size: int, other_count: int, other_size: int) -> float:
    """G²: how unlikely it is that a word found count / size and other_count / other_size times is equally common."""
    common = (count + other_count) / (size + other_size)
    expected, other_expected = size * common, other_size * common
    own = count * math.log(count / expected) if count else 0.0
    other = other_count * math.log(other_count / other_expected) if other_count else 0.0
    return 2.0 * (own + other)


def examples(window: Traffic) -> list[dict[str, Any]]:
    """Answers that were least sure and least like anything trained on; their texts cut to 200 characters."""
    unlike = _ranks(-window.signals["similarity"]) + _ranks(window.signals["entropy"])
    strangest = np.argsort(-unlike, kind="stable")[:MAX_EXAMPLES]
    return [{"id": window.ids[row], "text": (window.texts[row] or "")[:MAX_EXAMPLE_LETTERS]} for row in strangest]


def _ranks(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")
