"""What moved, in words a person can act on: classes, words, phrases, length, new kinds of texts, texts to look at.

Bounded, whatever the window.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from monitoring.baseline import Baseline
from monitoring.clusters import new_clusters
from monitoring.signals import Traffic
from monitoring.slice_values import UsualValues, moved_values
from monitoring.wording import moved_phrases, moved_words

MAX_CLASSES = 5
MAX_EXAMPLES = 5
MAX_EXAMPLE_LETTERS = 200
MAX_TEXTS = 20_000


def explain(baseline: Baseline, window: Traffic, usual: UsualValues, rng: np.random.Generator) -> dict[str, Any]:
    """What distinguishes the window from its baseline, strongest first; plain values, ready for JSON.

    classes: [{class, baseline, window}] shares of the predicted classes that moved most; words: [{word, texts, per_10k,
    baseline_per_10k}] that are new or much more frequent, by 20,000 of the texts, and so `phrases` of two words;
    clusters: see `new_clusters`; slices: see `moved_values`; length: medians in tokens; examples: [{id, text}] least
    like the baseline. `words` and `phrases` are empty where texts are not kept.
    """
    read = rng.choice(len(window), size=MAX_TEXTS, replace=False) if len(window) > MAX_TEXTS else range(len(window))
    texts, usual_words = [window.texts[row] for row in read], baseline.usual_words
    return {
        "classes": moved_classes(baseline, window),
        "words": moved_words(usual_words.words, usual_words.total_words, texts),
        "phrases": moved_phrases(
            usual_words.phrases, usual_words.total_phrases, texts, complete=usual_words.all_phrases
        ),
        "clusters": new_clusters(baseline, window, rng),
        "slices": moved_values(usual, baseline, window),
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


def examples(window: Traffic) -> list[dict[str, Any]]:
    """Answers that were least sure and least like anything trained on; their texts cut to 200 characters."""
    unlike = _ranks(-window.signals["similarity"]) + _ranks(window.signals["entropy"])
    strangest = np.argsort(-unlike, kind="stable")[:MAX_EXAMPLES]
    return [{"id": window.ids[row], "text": (window.texts[row] or "")[:MAX_EXAMPLE_LETTERS]} for row in strangest]


def _ranks(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")
