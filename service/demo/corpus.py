"""What the demo plays with: a training file, steady traffic, and traffic after the world has changed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitoring.core.datafile import read_columns, text_column
from monitoring.core.errors import InvalidInput

OWN_CORPUS = Path(__file__).parent / "messages.csv"
SPLITS = {"train": 0.42, "validation": 0.08, "holdout": 0.18}  # of the base messages; the rest is traffic
STEADY_SHARE = 0.3  # of that traffic; the rest mixes with what is new
LARGEST_SPLITS = {"train": 4000, "validation": 800, "holdout": 2000}
MOST_TRAFFIC = 4000
SMALLEST_TRAFFIC = 300


@dataclass(frozen=True)
class Message:
    """One customer's message and what it truly is. `customer` is the assignment key."""

    text: str
    label: str
    customer: str


@dataclass(frozen=True)
class Script:
    """The demo's material; no message is in two parts, and none is sent twice."""

    training: Sequence[tuple[str, str, str]]  # text, label, split
    steady: Sequence[Message]
    drifted: Sequence[Message]

    def write_training(self, path: Path) -> None:
        """The labelled file that `leeway train` reads."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label", "split"])
            writer.writerows(self.training)


def own_script(rng: np.random.Generator) -> Script:
    """The support desk: 12 intents, then 4 new ones and a new vocabulary."""
    table = read_columns(OWN_CORPUS, ["text", "label", "period"])
    rows = list(zip(text_column(table, "text"), text_column(table, "label"), strict=True))
    periods = text_column(table, "period")
    base = [row for row, period in zip(rows, periods, strict=True) if period == "base"]
    late = [row for row, period in zip(rows, periods, strict=True) if period == "late"]
    return make_script(base, late, late_share=0.6, rng=rng)


def script_from_files(data: Path, drift_data: Path, *, text: str, label: str, rng: np.random.Generator) -> Script:
    """The same from a user's own files. Raises InvalidInput when they are too small to tell a story."""
    base, late = _labelled(data, text, label), _labelled(drift_data, text, label)
    return make_script(base, late, late_share=0.35, rng=rng)


def make_script(
    base: Sequence[tuple[str, str]], late: Sequence[tuple[str, str]], *, late_share: float, rng: np.random.Generator
) -> Script:
    """Deal (text, label) rows out at random into disjoint parts. `late_share` of the drifted traffic is `late`."""
    base = _shuffled(_distinct(base), rng)
    known = {text for text, _ in base}
    late = _shuffled([row for row in _distinct(late) if row[0] not in known], rng)
    training: list[tuple[str, str, str]] = []
    start = 0
    for split, share in SPLITS.items():
        size = min(int(share * len(base)), LARGEST_SPLITS[split])
        training += [(text, label, split) for text, label in base[start : start + size]]
        start += size
    traffic = base[start:][:MOST_TRAFFIC]
    steady, later = traffic[: int(STEADY_SHARE * len(traffic))], traffic[int(STEADY_SHARE * len(traffic)) :]
    size = int(min(len(later) / (1 - late_share), len(late) / late_share))
    fresh = round(size * late_share)
    drifted = _shuffled([*later[: size - fresh], *late[:fresh]], rng)
    if len(steady) < SMALLEST_TRAFFIC or len(drifted) < 3 * SMALLEST_TRAFFIC:
        raise InvalidInput(
            f"the files give {len(steady)} steady and {len(drifted)} drifted messages; the demo needs at least "
            f"{SMALLEST_TRAFFIC} and {3 * SMALLEST_TRAFFIC}: bring more rows",
            field="data",
        )
    return Script(training, _from_customers(steady, rng), _from_customers(drifted, rng))


def _from_customers(rows: Sequence[tuple[str, str]], rng: np.random.Generator) -> list[Message]:
    """Hand messages to customers, most of whom write once and some two or three times."""
    customers = rng.integers(0, max(1, int(0.8 * len(rows))), size=len(rows))
    run = rng.integers(1 << 30)
    return [Message(text, label, f"customer-{run}-{who}") for (text, label), who in zip(rows, customers, strict=True)]


def _labelled(path: Path, text: str, label: str) -> list[tuple[str, str]]:
    table = read_columns(path, [text, label])
    return list(zip(text_column(table, text), text_column(table, label), strict=True))


def _distinct(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return list({text: (text, label) for text, label in rows}.values())


def _shuffled(rows: Sequence[tuple[str, str]], rng: np.random.Generator) -> list[tuple[str, str]]:
    return [rows[i] for i in rng.permutation(len(rows))]
