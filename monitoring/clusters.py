"""New kinds of texts in a window: found by where their embeddings gather, named by their own words. Explains, no alarm.

A sample of the baseline and one of the window are pooled, each axis scaled to unit variance and each row to unit length
(so that directions count in which the known topics hardly differ), and put into one tree (Ward's method), which does
not know which row is whose. While both come from one distribution, the rows of a branch are therefore a random draw, so
that Fisher's exact test of each branch holds, and Bonferroni's correction over the branches bounds by CHANCE the
probability that a window like its baseline gets any cluster. Of nested branches the most significant one is told.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.stats import hypergeom

from monitoring.baseline import Baseline
from monitoring.signals import Traffic
from monitoring.stats.binning import finite_rows
from monitoring.wording import distinctive_terms

CHANCE = 0.01
SAMPLE = 2_000
LEAST_ROWS = 10
MAX_CLUSTERS = 5
MAX_EXAMPLES = 3
MAX_EXAMPLE_LETTERS = 200

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


def new_clusters(baseline: Baseline, window: Traffic, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Kinds of texts that the window has more of than the baseline, the largest excess first; at most five.

    [{name, count, share, baseline_share, effect, p_value, similarity, examples: [{id, text}]}]: `count` of the window's
    rows, scaled up where only a sample of 2,000 was looked at; `effect`: share minus baseline_share; `similarity`: the
    median, to the nearest class known. Without texts, a cluster is named by its most frequent answer. Empty where the
    baseline keeps no sample of its embeddings. Rows whose embedding is no number are in no cluster.
    """
    usual_rows, placed = finite_rows(baseline.sample), finite_rows(window.projected)
    if min(len(usual_rows), len(placed)) < LEAST_ROWS:
        return []
    kept = placed[np.sort(rng.choice(len(placed), size=min(SAMPLE, len(placed)), replace=False))]
    pooled = np.concatenate([baseline.sample[usual_rows], window.projected[kept]], dtype=np.float64)
    known = len(usual_rows)
    found: list[dict[str, Any]] = []
    for branch, p_value in over_represented(pooled, known):
        own = branch[branch >= known] - known
        share, usual = len(own) / len(kept), int((branch < known).sum()) / known
        centre = pooled[branch[branch >= known]].mean(axis=0)
        nearest = kept[own[np.argsort(np.square(pooled[known + own] - centre).sum(axis=1), kind="stable")]]
        found.append(
            {
                "name": _name(baseline, window, kept, own),
                "count": round(share * len(placed)),
                "share": share,
                "baseline_share": usual,
                "effect": share - usual,
                "p_value": p_value,
                "similarity": float(np.median(window.signals["similarity"][kept[own]])),
                "examples": [
                    {"id": window.ids[row], "text": (window.texts[row] or "")[:MAX_EXAMPLE_LETTERS]}
                    for row in nearest[:MAX_EXAMPLES].tolist()
                ],
            }
        )
    return sorted(found, key=lambda cluster: -cluster["effect"])[:MAX_CLUSTERS]


def over_represented(pooled: Floats, known: int) -> list[tuple[Rows, float]]:
    """Branches of the tree over `pooled` rows (n, d), of which the first `known` are the baseline's.

    Each with its rows and its p-value, corrected for the number of branches; disjoint, most significant first.
    """
    n = len(pooled)
    scaled = (pooled - pooled.mean(axis=0)) / np.maximum(pooled.std(axis=0), 1e-12)
    merges = linkage(scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12), method="ward")
    sizes, own = np.ones(2 * n - 1), np.zeros(2 * n - 1)
    own[known:n] = 1.0
    for step, (left, right) in enumerate(merges[:, :2].astype(np.int64).tolist()):
        sizes[n + step] = sizes[left] + sizes[right]
        own[n + step] = own[left] + own[right]
    branches = n + np.flatnonzero(sizes[n:-1] >= LEAST_ROWS)
    chances = hypergeom.sf(own[branches] - 1, n, n - known, sizes[branches]) * len(branches)
    taken: set[int] = set()
    chosen = []
    for rank in np.lexsort((-sizes[branches], chances)).tolist():
        if chances[rank] > CHANCE:
            break
        rows = _rows_below(int(branches[rank]), merges, n)
        if taken.isdisjoint(rows):
            taken.update(rows)
            chosen.append((np.array(sorted(rows), dtype=np.int64), float(chances[rank])))
    return chosen


def _rows_below(branch: int, merges: Floats, n: int) -> list[int]:
    rows, open_branches = [], [branch]
    while open_branches:
        at = open_branches.pop()
        if at < n:
            rows.append(at)
        else:
            open_branches += merges[at - n, :2].astype(np.int64).tolist()
    return rows


def _name(baseline: Baseline, window: Traffic, kept: Rows, own: Rows) -> str:
    """The cluster's most distinctive terms; without texts or such terms, what most of it was answered with."""
    inside = np.zeros(len(kept), dtype=np.bool_)
    inside[own] = True
    texts = [window.texts[row] or "" for row in kept.tolist()]
    of_own = [text for text, is_own in zip(texts, inside.tolist(), strict=True) if is_own]
    of_rest = [text for text, is_own in zip(texts, inside.tolist(), strict=True) if not is_own]
    usual = baseline.usual_words
    terms = distinctive_terms(of_own, of_rest, usual.words, usual.total_words)
    if terms:
        return ", ".join(terms)
    [(answer, _)] = Counter(window.predicted[kept[own]].tolist()).most_common(1)
    return f"answered {answer}"
