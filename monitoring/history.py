"""A dated, labelled past: who is trained on which rows, which rows make a window, and which of them get a label."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitoring.core import datafile
from monitoring.core.errors import InvalidInput

TRAIN, VALIDATION, HOLDOUT = "train", "validation", "holdout"
VALIDATION_SHARE = 0.15
LEAST_EXAMPLES = 2
Span = tuple[datetime, datetime, slice]


@dataclass(frozen=True)
class History:
    """Labelled texts, oldest first; `times` are aware UTC."""

    texts: Sequence[str]
    labels: Sequence[str]
    times: Sequence[datetime]

    def __len__(self) -> int:
        return len(self.texts)

    def only(self, rows: Sequence[int]) -> History:
        """The rows at these places, given in rising order."""
        return History(
            [self.texts[row] for row in rows], [self.labels[row] for row in rows], [self.times[row] for row in rows]
        )

    def before(self, moment: datetime) -> int:
        """The number of rows before `moment`."""
        return bisect_left(self.times, moment)


@dataclass(frozen=True)
class Plan:
    """What is replayed: a model that learns from rows before `train_until`, then windows of length `window`.

    `labels_per_window`: so many answers of each, drawn at random, get a label; None: all do. `what_if`: judge the same
    answers by other settings, too.
    """

    train_until: datetime
    window: timedelta
    label_delay: timedelta
    retrain: bool
    seed: int
    labels_per_window: int | None = None
    what_if: bool = True


@dataclass(frozen=True)
class Asked:
    """Which rows of a window are labelled, (n,): all, or a sample drawn blindly, each with the same `probability`."""

    rows: NDArray[np.bool_]
    probability: float

    @classmethod
    def draw(cls, n: int, most: int | None, rng: np.random.Generator) -> Asked:
        """All n rows, or `most` of them drawn at random."""
        if most is None or most >= n:
            return cls(np.ones(n, dtype=np.bool_), 1.0)
        rows = np.zeros(n, dtype=np.bool_)
        rows[rng.choice(n, size=most, replace=False)] = True
        return cls(rows, most / n)


@dataclass(frozen=True)
class Dated:
    """The past as it is replayed: rows from `first` on, in `spans` that hold at least one; which rows get a label."""

    history: History
    plan: Plan
    first: int
    spans: Sequence[Span]

    def asked(self, rows: slice) -> Asked:
        """The same rows whenever they are shown."""
        rng = np.random.default_rng([self.plan.seed, rows.start])
        return Asked.draw(rows.stop - rows.start, self.plan.labels_per_window, rng)

    def labelled(self) -> History:
        """Only what is ever labelled."""
        kept = np.ones(len(self.history), dtype=np.bool_)
        for _, _, rows in self.spans:
            kept[rows] = self.asked(rows).rows
        return self.history.only(np.flatnonzero(kept).tolist())


@dataclass(frozen=True)
class TrainingRows:
    """What a model is trained on; `splits`: train, validation or holdout."""

    texts: Sequence[str]
    labels: Sequence[str]
    splits: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)


def read_history(path: Path, *, text: str, label: str, time: str) -> History:
    """Read a file of texts with their labels and times. Raises InvalidInput, naming the column and row at fault."""
    table = datafile.read_columns(path, [text, label, time])
    times = datafile.time_column(table, time).to_pylist()
    texts, labels = datafile.text_column(table, text), datafile.text_column(table, label)
    order = sorted(range(len(times)), key=times.__getitem__)
    return History([texts[row] for row in order], [labels[row] for row in order], [times[row] for row in order])


def windows_of(history: History, start: datetime, length: timedelta) -> Iterator[Span]:
    """The windows from `start` to the last row: begin, end, and the rows in between."""
    while history.before(start) < len(history):
        end = start + length
        yield start, end, slice(history.before(start), history.before(end))
        start = end


def training_rows(
    history: History,
    *,
    known: int,
    recent_from: int,
    holdout: float,
    classes: Collection[str],
    least_new: int,
    seed: int,
) -> TrainingRows:
    """The first `known` rows, divided at random; the hold-out, which makes the baseline, is of rows from `recent_from`.

    What was held out once is never trained on later, and the same text is always on one side. `classes`: those that the
    model knows already; others need `least_new` examples. Raises InvalidInput where fewer than two classes remain.
    """
    kept = [(row, _part(history.texts[row], row >= recent_from, holdout, seed)) for row in range(known)]
    examples = Counter(history.labels[row] for row, part in kept if part is not None)
    taught = Counter(history.labels[row] for row, part in kept if part == TRAIN)
    teachable = {
        label
        for label, count in taught.items()
        if count >= LEAST_EXAMPLES and (label in classes or examples[label] >= least_new)
    }
    if len(teachable) < 2:
        raise InvalidInput(
            f"{known} rows are known by then, of {len(teachable)} classes with enough examples; a classifier needs two",
            field="train_until",
        )
    rows = [(row, part) for row, part in kept if part is not None and history.labels[row] in teachable]
    return TrainingRows(
        [history.texts[row] for row, _ in rows], [history.labels[row] for row, _ in rows], [part for _, part in rows]
    )


def _part(text: str, recent: bool, holdout: float, seed: int) -> str | None:
    """Where a text belongs, by its hash; None for one that was held out in the past."""
    normal = " ".join(text.casefold().split())
    digest = hashlib.blake2b(normal.encode(), digest_size=8, salt=seed.to_bytes(8, "big")).digest()
    place = int.from_bytes(digest) / 2**64
    if place < holdout:
        return HOLDOUT if recent else None
    return VALIDATION if place < holdout + (1 - holdout) * VALIDATION_SHARE else TRAIN
