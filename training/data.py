"""Labelled files, checked, and their division into what is learnt from and what is tested on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.core import datafile
from monitoring.core.errors import InvalidInput

TRAIN, VALIDATION, HOLDOUT = "train", "validation", "holdout"
SPLIT_NAMES: Mapping[str, str] = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "holdout": HOLDOUT,
    "baseline": HOLDOUT,
    "test": HOLDOUT,
}
MAX_LABEL_LENGTH = 200
SHOWN = 5


@dataclass(frozen=True)
class LabelledData:
    """Rows of one file, in its order: `times` are aware UTC, `extra` holds the further columns asked for."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    times: tuple[datetime, ...] | None = None
    extra: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)


def read_table(
    path: Path,
    text_column: str,
    label_column: str,
    time_column: str | None = None,
    extra: Sequence[str] = (),
) -> LabelledData:
    """Read a labelled file: CSV, JSON lines or Parquet, by its ending.

    Raises InvalidInput, naming the column and the rows at fault; row 1 is the first row of data.
    """
    named = [name for name in (text_column, label_column, time_column, *extra) if name is not None]
    table = datafile.read_columns(path, list(dict.fromkeys(named)))
    texts = tuple(datafile.text_column(table, text_column))
    labels = _labels(table[label_column].to_pylist(), label_column)
    _check_classes(labels, label_column)
    times = None if time_column is None else tuple(datafile.time_column(table, time_column).to_pylist())
    return LabelledData(texts, labels, times, {name: tuple(table[name].to_pylist()) for name in extra})


def split(
    texts: Sequence[str], labels: Sequence[str], *, seed: int, validation: float = 0.15, holdout: float = 0.2
) -> tuple[str, ...]:
    """Assign each row to train, validation or holdout at random, class by class.

    The same text (but for case and spaces) always goes to one side, so that nothing is tested on what was learnt.
    A class of two texts gets one in train and one in holdout, from three on one in each at least.
    """
    rng = np.random.default_rng(seed)
    groups = _groups_of_same_text(texts)
    assigned = [TRAIN] * len(texts)
    for label in sorted(set(labels)):
        members = [rows for rows in groups if labels[rows[0]] == label]
        order = rng.permutation(len(members))
        held = 0 if len(members) < 2 else max(1, round(holdout * len(members)))
        validating = 0 if len(members) < 3 or validation == 0 else max(1, round(validation * len(members)))
        for place, member in enumerate(order[: held + validating]):
            for row in members[member]:
                assigned[row] = HOLDOUT if place < held else VALIDATION
    return tuple(assigned)


def read_splits(column: Sequence[Any], name: str, data: LabelledData, *, seed: int) -> tuple[str, ...]:
    """The file's own split. Without validation rows, a part of train is set aside for it.

    Raises InvalidInput for an unknown value, a missing part, or a label that the training rows lack.
    """
    unknown = [row for row, value in enumerate(column) if str(value).lower() not in SPLIT_NAMES]
    if unknown:
        raise InvalidInput(
            f"column {name!r} holds {column[unknown[0]]!r} in {_rows(unknown)}: a split is one of "
            f"{', '.join(SPLIT_NAMES)}",
            field=name,
        )
    splits = [SPLIT_NAMES[str(value).lower()] for value in column]
    for part in (TRAIN, HOLDOUT):
        if part not in splits:
            raise InvalidInput(f"column {name!r} names no {part} rows", field=name)
    if VALIDATION not in splits:
        splits = _set_validation_aside(splits, data, seed)
    taught = {label for label, part in zip(data.labels, splits, strict=True) if part == TRAIN}
    untaught = [row for row, label in enumerate(data.labels) if label not in taught]
    if untaught:
        raise InvalidInput(
            f"label {data.labels[untaught[0]]!r} ({_rows(untaught)}) does not occur among the train rows of {name!r}",
            field=name,
        )
    return tuple(splits)


def _set_validation_aside(splits: Sequence[str], data: LabelledData, seed: int) -> list[str]:
    training = [row for row, part in enumerate(splits) if part == TRAIN]
    texts, labels = [data.texts[row] for row in training], [data.labels[row] for row in training]
    parts = split(texts, labels, seed=seed, validation=0.0, holdout=0.15)
    divided = list(splits)
    for row, part in zip(training, parts, strict=True):
        divided[row] = VALIDATION if part == HOLDOUT else TRAIN
    return divided


def _groups_of_same_text(texts: Sequence[str]) -> list[list[int]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        groups[" ".join(text.casefold().split())].append(row)
    return list(groups.values())


def _labels(values: Sequence[Any], column: str) -> tuple[str, ...]:
    labels = ["" if value is None else str(value).strip() for value in values]
    _refuse(labels, lambda label: not label, column, "is empty")
    _refuse(labels, lambda label: len(label) > MAX_LABEL_LENGTH, column, f"is over {MAX_LABEL_LENGTH} characters")
    return tuple(labels)


def _check_classes(labels: Sequence[str], column: str) -> None:
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        rows_of[label].append(row)
    if len(rows_of) < 2:
        raise InvalidInput(f"column {column!r} holds {len(rows_of)} classes; a classifier needs two", field=column)
    lonely = {label: rows[0] for label, rows in rows_of.items() if len(rows) < 2}
    if lonely:
        some = ", ".join(f"{label!r} (row {row + 1})" for label, row in list(lonely.items())[:SHOWN])
        raise InvalidInput(
            f"column {column!r}: {len(lonely)} classes have fewer than 2 rows, such as {some}: add rows or drop them",
            field=column,
        )


def _refuse(values: Sequence[Any], faulty: Callable[[Any], bool], column: str, fault: str) -> None:
    rows = [row for row, value in enumerate(values) if faulty(value)]
    if rows:
        raise InvalidInput(f"column {column!r}: {_rows(rows)} {fault}", field=column)


def _rows(rows: Sequence[int]) -> str:
    shown = ", ".join(str(row + 1) for row in rows[:SHOWN])
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"row {shown}{more}"
