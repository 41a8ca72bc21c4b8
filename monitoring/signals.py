"""What is watched: the answers of one version in order of time, and the scores that the detector ranks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from monitoring.core.signals import SIGNALS, Floats, Predictions
from monitoring.slices import Metadata

DETECTOR_SCORES = ("strangeness", "entropy", "similarity", "rarity", "surprise", "length")
STRANGE = {"entropy": +1, "similarity": -1, "rarity": +1}
"""What strangeness adds up, and in which direction each is strange."""
DOUBT = ("entropy", "similarity")
"""Those of them that are the model's own: an answer in doubt is likelier wrong, an odd wording alone is not."""
LONGEST_WORD = 24
MAX_WORDS = 20_000
MAX_PHRASES = 10_000
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


@dataclass(frozen=True)
class Traffic:
    """Answers of one version, oldest first; everything holds n rows.

    `units`: the clients' hashed keys; `predicted`: class names; `signals`: each of SIGNALS (n,); `projected`
    (n, PROJECTED); a text is None where the policy does not keep it. `metadata`: what came with the requests, `seconds`
    (n,): when each was answered, in whole seconds since the epoch; None where nobody kept it.
    """

    ids: Sequence[str]
    units: Sequence[str]
    predicted: NDArray[np.str_]
    signals: Mapping[str, Floats]
    projected: NDArray[np.float32]
    texts: Sequence[str | None]
    start: datetime
    end: datetime
    metadata: Metadata | None = None
    seconds: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.predicted)


def traffic_of(
    predictions: Predictions,
    classes: Sequence[str],
    *,
    ids: Sequence[str],
    texts: Sequence[str | None],
    start: datetime,
    end: datetime,
) -> Traffic:
    """What the runtime answered, each to another client; for replays, which have no prediction log."""
    return Traffic(
        ids=ids,
        units=ids,
        predicted=np.asarray(classes, dtype=np.str_)[predictions.predicted],
        signals={name: predictions.signal(name) for name in SIGNALS},
        projected=predictions.projected.astype(np.float32),
        texts=texts,
        start=start,
        end=end,
    )


def picked(traffic: Traffic, rows: NDArray[np.int64]) -> Traffic:
    """Only these rows of it, in this order; what came with the requests is left out."""
    return Traffic(
        ids=[traffic.ids[row] for row in rows],
        units=[traffic.units[row] for row in rows],
        predicted=traffic.predicted[rows],
        signals={name: values[rows] for name, values in traffic.signals.items()},
        projected=traffic.projected[rows],
        texts=[traffic.texts[row] for row in rows],
        start=traffic.start,
        end=traffic.end,
        seconds=None if traffic.seconds is None else traffic.seconds[rows],
    )


def joined(parts: Sequence[Traffic]) -> Traffic:
    """One traffic of several, in their order."""
    known = [part.metadata for part in parts if part.metadata is not None]
    clocks = [part.seconds for part in parts if part.seconds is not None]
    return Traffic(
        ids=[name for part in parts for name in part.ids],
        units=[unit for part in parts for unit in part.units],
        predicted=np.concatenate([part.predicted for part in parts]),
        signals={name: np.concatenate([part.signals[name] for part in parts]) for name in parts[0].signals},
        projected=np.concatenate([part.projected for part in parts]),
        texts=[text for part in parts for text in part.texts],
        start=min(part.start for part in parts),
        end=max(part.end for part in parts),
        metadata=Metadata.joined(known) if len(known) == len(parts) else None,
        seconds=np.concatenate(clocks) if len(clocks) == len(parts) else None,
    )


@dataclass(frozen=True)
class WordCounts:
    """How often some texts use their commonest 20,000 words, of `total_words` in all, and 10,000 pairs of words."""

    words: Mapping[str, int]
    total_words: int
    phrases: Mapping[str, int]
    total_phrases: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Count them; bounded, whatever the number of texts."""
        said = list(texts)
        single, pairs = count_words(said), count_phrases(said)
        return cls(
            dict(single.most_common(MAX_WORDS)), single.total(), dict(pairs.most_common(MAX_PHRASES)), pairs.total()
        )

    @property
    def all_phrases(self) -> bool:
        """Whether `phrases` holds every pair that occurred, not the commonest alone."""
        return len(self.phrases) < MAX_PHRASES


def words(text: str) -> list[str]:
    """The words of a text in any script, lower-cased, without digits, cut at 24 letters.

    >>> words("Where's my order #12? Übergröße!")
    ["where's", 'my', 'order', 'übergröße']
    """
    return [word[:LONGEST_WORD] for word in _WORD.findall(text.lower())]


def phrases(text: str) -> list[str]:
    """Pairs of neighbouring words.

    >>> phrases("Trade in my phone")
    ['trade in', 'in my', 'my phone']
    """
    said = words(text)
    return [f"{first} {second}" for first, second in pairwise(said)]


def count_phrases(texts: Iterable[str]) -> Counter[str]:
    """How often each pair of neighbouring words occurs."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(phrases(text))
    return counts


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words(text))
    return counts


def novelty(texts: Iterable[str], known: Mapping[str, int]) -> Floats:
    """Per text (n,): the share of its words that are not among the `known`; 0 for a text without words."""
    return np.array([_unknown_share(words(text), known) for text in texts], dtype=np.float64)


def _unknown_share(text_words: Sequence[str], known: Mapping[str, int]) -> float:
    if not text_words:
        return 0.0
    return (len(text_words) - sum(map(known.__contains__, text_words))) / len(text_words)
