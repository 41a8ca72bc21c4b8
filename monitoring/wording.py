"""Which words and phrases tell texts from others: the common core of 'words moved' and of a cluster's name. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monitoring.signals import phrases, words

MAX_MOVED = 10
MAX_NAME_TERMS = 3
LEAST_TEXTS = 3
LEAST_SHARE_OF_A_NAME = 0.1
SURE = 10.83  # of a chi-squared variable with one degree of freedom, 0.1 % exceed this


def moved_words(known: Mapping[str, int], total: int, texts: Sequence[str | None]) -> list[dict[str, Any]]:
    """Words that the texts use significantly more often than the `known` counts out of `total` would have it.

    Ranked by Dunning's log-likelihood ratio ("Accurate methods for the statistics of surprise and coincidence", 1993);
    a word must occur in three texts, so that one odd text does not speak for all.
    """
    return _moved("word", words, known, total, texts, floor=0)


def moved_phrases(
    known: Mapping[str, int], total: int, texts: Sequence[str | None], *, complete: bool
) -> list[dict[str, Any]]:
    """Pairs of neighbouring words, as `moved_words`. Where `known` is cut (not `complete`), a pair that it lacks counts
    as often as the rarest that it holds: rare is not new. Empty where nothing is known.
    """
    if not known:
        return []
    return _moved("phrase", phrases, known, total, texts, floor=0 if complete else min(known.values()))


def log_likelihood_ratio(count: int, size: int, other_count: int, other_size: int) -> float:
    """G²: how unlikely it is that a word found count / size and other_count / other_size times is equally common."""
    common = (count + other_count) / (size + other_size)
    expected, other_expected = size * common, other_size * common
    own = count * math.log(count / expected) if count else 0.0
    other = other_count * math.log(other_count / other_expected) if other_count else 0.0
    return 2.0 * (own + other)


def distinctive_terms(own: Sequence[str], rest: Sequence[str], known: Mapping[str, int], total: int) -> list[str]:
    """Up to three words or phrases by which a group of texts is told from the rest of its window and from the baseline.

    Counted once a text, which must be three texts or more and a tenth of the group; a word must be more frequent than
    among the `known` counts of `total` words as well. A phrase is taken before its parts, which then are not repeated.
    """
    of_own, of_rest = _spread(own), _spread(rest)
    own_words = sum(len(words(text)) for text in own)
    least = max(LEAST_TEXTS, LEAST_SHARE_OF_A_NAME * len(own))
    scores = {}
    for term, texts in of_own.items():
        elsewhere = of_rest[term]
        if texts < least or texts * len(rest) <= elsewhere * len(own):
            continue
        score = log_likelihood_ratio(texts, len(own), elsewhere, max(len(rest), 1))
        if " " not in term:
            usual = known.get(term, 0)
            if texts * total <= usual * own_words:
                continue
            score = min(score, log_likelihood_ratio(texts, own_words, usual, max(total, 1)))
        if score > SURE:
            scores[term] = score
    return _without_repetition(sorted(scores, key=lambda term: (-scores[term], -term.count(" "), term)))


def _without_repetition(ranked: Sequence[str]) -> list[str]:
    taken: list[str] = []
    said: set[str] = set()
    for term in ranked:
        if len(taken) < MAX_NAME_TERMS and said.isdisjoint(term.split()):
            taken.append(term)
            said.update(term.split())
    return taken


def _spread(texts: Sequence[str]) -> Counter[str]:
    """In how many of the texts each word and each phrase occurs."""
    spread: Counter[str] = Counter()
    for text in texts:
        spread.update({*words(text), *phrases(text)})
    return spread


def _moved(
    kind: str,
    terms_of: Callable[[str], list[str]],
    known: Mapping[str, int],
    total: int,
    texts: Sequence[str | None],
    *,
    floor: int,
) -> list[dict[str, Any]]:
    spread: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for text in texts:
        terms = terms_of(text or "")
        counts.update(terms)
        spread.update(set(terms))
    size = counts.total()
    scores = {
        term: log_likelihood_ratio(count, size, known.get(term, floor), total)
        for term, count in counts.items()
        if spread[term] >= LEAST_TEXTS and count * total > known.get(term, floor) * size
    }
    strongest = sorted((term for term in scores if scores[term] > SURE), key=lambda term: (-scores[term], term))
    return [
        {
            kind: term,
            "texts": spread[term],
            "per_10k": 10_000 * counts[term] / size,
            "baseline_per_10k": 10_000 * known.get(term, 0) / max(total, 1),
        }
        for term in strongest[:MAX_MOVED]
    ]
