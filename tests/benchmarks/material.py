"""What the bench plays with: texts to train on, traffic that stays the same, and two new topics.

With a folder of `banking77.parquet` (id, text, label, split) and `clinc150.parquet` (the same and domain) these are
banking questions, with travel as the far new topic and another bank's questions as the near one. Without, it is the
project's own support desk, with intents of its late period as new topics; it is small, and its figures are its own.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitoring.core.datafile import read_columns, text_column
from service.demo.corpus import OWN_CORPUS

TRAIN, VALIDATION = 5_000, 1_000
HELD_OUT_FOR_GATES = 1_000
LARGEST_TRAIN_SHARE, LARGEST_VALIDATION_SHARE = 0.4, 0.1
OWN_FAR = ("device_pairing", "trade_in")
OWN_NEAR = ("instalment_plan", "membership_plan")

Labelled = Sequence[tuple[str, str]]
"""Rows of text and label."""


@dataclass(frozen=True)
class Material:
    """Rows of each part; `far` and `near` hold labels that the model lacks."""

    name: str
    train: Labelled
    validation: Labelled
    pool: Labelled
    far: Labelled
    near: Labelled

    def write_training(self, path: Path) -> None:
        """The file that `leeway train` reads; its hold-out, a part of the pool, only serves the gates."""
        parts = {"train": self.train, "validation": self.validation, "holdout": self.pool[:HELD_OUT_FOR_GATES]}
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label", "split"])
            writer.writerows([text, label, part] for part, rows in parts.items() for text, label in rows)


def read_material(folder: Path | None) -> Material:
    """From the folder of data sets, or the project's own. Raises InvalidInput on a file that is not as it should be."""
    return own_material() if folder is None else banking_material(folder)


def banking_material(folder: Path) -> Material:
    """Banking77 as traffic, CLINC150's domains `travel` and `banking` as new topics."""
    table = read_columns(folder / "banking77.parquet", ["text", "label", "split"])
    rows, splits = _labelled(table), text_column(table, "split")
    first = [row for row, split in zip(rows, splits, strict=True) if split == "train"]
    rest = [row for row, split in zip(rows, splits, strict=True) if split != "train"]
    table = read_columns(folder / "clinc150.parquet", ["text", "label", "domain"])
    new, domains = _labelled(table), text_column(table, "domain")
    far, near = ([row for row, of in zip(new, domains, strict=True) if of == topic] for topic in ("travel", "banking"))
    return deal("Banking77 and CLINC150", _shuffled(first), rest, far, near)


def own_material() -> Material:
    """The support desk of the demo."""
    table = read_columns(OWN_CORPUS, ["text", "label", "period"])
    rows, periods = _labelled(table), text_column(table, "period")
    base = [row for row, period in zip(rows, periods, strict=True) if period == "base"]
    far, near = ([row for row in rows if row[1] in topic] for topic in (OWN_FAR, OWN_NEAR))
    return deal("the project's own support desk", _shuffled(base), [], far, near)


def deal(name: str, first: Labelled, rest: Labelled, far: Labelled, near: Labelled) -> Material:
    """Train and validation from `first`; what is left of it and the `rest` are the pool."""
    everything = len(first) + len(rest)
    train = min(TRAIN, int(LARGEST_TRAIN_SHARE * everything))
    until = train + min(VALIDATION, int(LARGEST_VALIDATION_SHARE * everything))
    known = {label for _, label in first[:train]}
    new = [[(text, f"new: {label}" if label in known else label) for text, label in topic] for topic in (far, near)]
    return Material(name, first[:train], first[train:until], [*first[until:], *rest], *new)


def _labelled(table: object) -> list[tuple[str, str]]:
    return list(zip(text_column(table, "text"), text_column(table, "label"), strict=True))


def _shuffled(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [rows[row] for row in np.random.default_rng(0).permutation(len(rows))]
