"""A dated, labelled past: who is trained on which rows, and which rows make a window."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from monitoring.core import datafile
from monitoring.core.errors import InvalidInput

TRAIN, VALIDATION, HOLDOUT = "train", "validation", "holdout"
VALIDATION_SHARE = 0.15
LEAST_EXAMPLES = 2


@dataclass(frozen=True)
class History:
    """Labelled texts, oldest first; `times` are aware UTC."""

    texts: Sequence[str]
    labels: Sequence[str]
    times: Sequence[datetime]

    def __len__(self) -> int:
        return len(self.texts)

    def before(self, moment: datetime) -> int:
        """The number of rows before `moment`."""
        return bisect_left(self.times, moment)


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


def windows_of(history: History, start: datetime, length: timedelta) -> Iterator[tuple[datetime, datetime, slice]]:
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
