"""Which answers to ask labels for: a random part that keeps estimates honest, and the most telling of the rest. Pure.

**The random part.** An answer belongs to it if a hash of its prediction id falls below the share that is set. So each
answer has exactly that chance, decided once and blind to its text, its scores and its labels, however often the queue
is drawn; the share goes with the label as its sampling probability. Two rules keep it so:

- It is left through an outcome-blind label only. Were a complaint enough, it would be left with too few errors.
- It is drawn first, takes no notice of duplicates, and what belongs to it is never asked for another reason.

Where more of it waits than there is room for, the newest come first: labels then speak of the newest stretch of
traffic, in which every answer still had the same chance. After a change of the share, a stretch that is drawn under
both counts for more than its length in a mean over time; its right and wrong answers still count alike.

**The rest** is chosen because of what the model answered, so its labels may train and alarm, never judge (`review`).
One half is least like what the model has learnt, by the similarity of its embedding to the nearest class; the other is
what the model is least sure of, by entropy, which finds more errors than margin. Both go down from the highest score
and pass over what is close to something taken, so five wordings of one message take one place. (Farthest-first
traversal, the usual way to diversity, was measured and left: it prefers the odd ones among the known to what is new.)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from monitoring.core.signals import Floats
from monitoring.core.types import LabelSource

RANDOM_PART = 0.5
"""Of the queue's size; the rest is halved between what has drifted and what is uncertain."""
CLOSE = 0.3
"""Embeddings nearer than this share of the pool's median distance say about the same."""
SURE = 0.8
"""From this confidence on, no answer is called unsure."""
MEASURED = 512
"""Rows from which that median is taken."""


class Part(StrEnum):
    """Why an answer is in the queue."""

    RANDOM = "random"
    DRIFTED = "drifted"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True)
class Pool:
    """A version's newest answers, newest first; everything holds n rows.

    `texts` tell messages apart: whole, hashed or None, as the log keeps them. `projected` (n, PROJECTED). `top_k`: JSON
    objects of class to probability. `judged`: the answer has an outcome-blind label; `labelled`: it has any.
    """

    ids: Sequence[str]
    at: Sequence[datetime]
    texts: Sequence[str | None]
    predicted: Sequence[str]
    confidence: Floats
    entropy: Floats
    similarity: Floats
    projected: NDArray[np.float32]
    top_k: Sequence[str]
    judged: NDArray[np.bool_]
    labelled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class QueueItem:
    """One answer that wants a label, and how to send that: with this `source` and `sampling_probability`.

    `choices`: the classes that the model found likeliest, likeliest first; people may choose any other.
    """

    prediction_id: str
    at: datetime
    text: str | None
    predicted: str
    confidence: float
    part: Part
    reason: str
    source: LabelSource
    sampling_probability: float | None
    choices: tuple[str, ...]


def how_to_ask(model: str) -> str:
    """The command that asks for labels of that model's answers."""
    return f"ask for labels with `leeway labels queue {model} --out queue.csv`"


def drawn_at_random(prediction_id: str, share: float) -> bool:
    """Whether the answer belongs to the random part; so it does with every higher share, too.

    >>> drawn_at_random("019b8e2c-0000-7000-8000-000000000000", 1.0)
    True
    """
    digest = hashlib.blake2b(prediction_id.encode(), digest_size=8, person=b"labels").digest()
    return int.from_bytes(digest) < share * 2**64


def draw_queue(pool: Pool, *, size: int, random_share: float, texts_kept: bool) -> list[QueueItem]:
    """At most `size` answers to label: the random part, then the drifted, then the uncertain one.

    Where a part is short, the next fills up. Of an empty pool, nothing. `texts_kept`: the pool's texts may be shown.
    """
    at_random = np.array([drawn_at_random(name, random_share) for name in pool.ids], dtype=np.bool_)
    waiting = np.flatnonzero(at_random & ~pool.judged)
    taken = waiting[: math.ceil(size * RANDOM_PART)].tolist()
    items = [_item(pool, row, Part.RANDOM, random_share, texts_kept) for row in taken]
    known = {_message(pool, row) for row in (*np.flatnonzero(pool.labelled).tolist(), *taken)}
    telling = np.flatnonzero(~at_random & ~pool.labelled)
    points = np.nan_to_num(pool.projected.astype(np.float64), posinf=0.0, neginf=0.0)
    close = CLOSE * _median_distance(points)
    for part, score, share in ((Part.DRIFTED, -pool.similarity, 2), (Part.UNCERTAIN, pool.entropy, 1)):
        ranked = _ranked(pool, telling, score, known)
        chosen = _spread(ranked, points, close, min(len(ranked), size - len(items)) // share)
        known |= {_message(pool, row) for row in chosen}
        items += [_item(pool, row, part, random_share, texts_kept) for row in chosen]
    return items


def shorter(parts: Sequence[str], size: int) -> list[int]:
    """Places of the first `size` in a drawn queue, given the part of each of its items, in the same proportions."""
    places = {part: [place for place, name in enumerate(parts) if name == part] for part in Part}
    random = places[Part.RANDOM][: math.ceil(size * RANDOM_PART)]
    drifted = places[Part.DRIFTED][: (size - len(random)) // 2]
    return [*random, *drifted, *places[Part.UNCERTAIN][: size - len(random) - len(drifted)]]


def _ranked(pool: Pool, rows: NDArray[np.int64], score: Floats, known: Set[str | bytes]) -> list[int]:
    """The rows from the highest score down, one for each message that is not `known`; no row without a score."""
    finite = rows[np.isfinite(score[rows])]
    found: dict[str | bytes, int] = {}
    for row in finite[np.argsort(-score[finite], kind="stable")].tolist():
        message = _message(pool, row)
        if message not in known:
            found.setdefault(message, row)
    return list(found.values())


def _spread(ranked: Sequence[int], points: Floats, close: float, most: int) -> list[int]:
    """The first `most` rows that are not `close` to one before them; where those are too few, somewhat closer ones."""
    taken: list[int] = []
    left = list(ranked)
    for limit in (close, close / 4, 0.0):
        passed: list[int] = []
        for row in left:
            if len(taken) == most:
                return taken
            near = bool(taken) and float(np.linalg.norm(points[taken] - points[row], axis=1).min()) < limit
            (passed if near else taken).append(row)
        left = passed
    return taken


def _median_distance(points: Floats) -> float:
    """Between the pairs of at most MEASURED rows (n, d), evenly picked; 0 for fewer than two."""
    from scipy.spatial.distance import pdist  # 30 MB, which a serving process that nobody asks for its queue is spared

    some = points[:: max(len(points) // MEASURED, 1)][:MEASURED]
    return float(np.median(pdist(some))) if len(some) > 1 else 0.0


def _message(pool: Pool, row: int) -> str | bytes:
    """What tells one message from another: its text, or its embedding where the log keeps no text."""
    text = pool.texts[row]
    return pool.projected[row].tobytes() if text is None else text


def _item(pool: Pool, row: int, part: Part, random_share: float, texts_kept: bool) -> QueueItem:
    at_random = part is Part.RANDOM
    likeliest = _likeliest(pool.top_k[row])
    return QueueItem(
        prediction_id=pool.ids[row],
        at=pool.at[row],
        text=pool.texts[row] if texts_kept else None,
        predicted=pool.predicted[row],
        confidence=float(pool.confidence[row]),
        part=part,
        reason=_reason(pool, row, part, random_share, likeliest),
        source=LabelSource.RANDOM_SAMPLE if at_random else LabelSource.REVIEW,
        sampling_probability=random_share if at_random else None,
        choices=tuple(likeliest) or (pool.predicted[row],),
    )


def _reason(pool: Pool, row: int, part: Part, random_share: float, likeliest: dict[str, float]) -> str:
    if part is Part.RANDOM:
        return f"drawn at random, as {random_share:.4g} of all answers are"
    if part is Part.DRIFTED:
        return f"of those that wait, among the least like what was learnt: similarity {pool.similarity[row]:.2f}"
    guesses = ", ".join(f"{name} {_share(share)}" for name, share in list(likeliest.items())[:2])
    said = guesses or f"{pool.predicted[row]} {_share(float(pool.confidence[row]))}"
    if pool.confidence[row] < SURE:
        return f"the model is unsure: {said}"
    return f"rather sure, and yet among the least sure of those that wait: {said}"


def _share(value: float) -> str:
    """In whole per cent; neither certainty nor impossibility is claimed by rounding."""
    return "over 99%" if 0.995 <= value < 1.0 else "under 1%" if 0.0 < value < 0.005 else f"{value:.0%}"


def _likeliest(top_k: str) -> dict[str, float]:
    """Classes with their probabilities, likeliest first; none where the log has none."""
    try:
        read = json.loads(top_k)
    except ValueError:
        return {}
    shares = read if isinstance(read, dict) else {}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
