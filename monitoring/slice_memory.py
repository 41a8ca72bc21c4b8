"""What is remembered of a reign's slices between windows: the first rows of each declared one, and what is usual.

No hold-out knows the metadata of requests, so a slice is compared with its own first 500 rows of the reign, which then
stay as they are. Rows of a small slice wait until there are enough for a test.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from zipfile import BadZipFile
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from monitoring.baseline import Baseline
from monitoring.core.signals import SIGNALS, Floats
from monitoring.core.types import DriftReport, Verdict
from monitoring.signals import Traffic, novelty
from monitoring.slice_values import UsualValues
from monitoring.slices import MAX_SLICES
from monitoring.stats.design_effect import Dependence

REFERENCE_ROWS = 500
LEAST_REFERENCE = 100
LEAST_ROWS = 50
MOST_ROWS = 5_000
ROWS_OF_A_NEWCOMER = 10
UNKNOWN = -1
_COLUMNS = (*SIGNALS, "vocabulary")
_PLAIN = ("projected", "clients", "seconds")


@dataclass(frozen=True)
class SliceRows:
    """Answers of one slice, n rows: class names, SIGNALS and `vocabulary` (nan without texts), embeddings (n, 32).

    And who got them when: `clients` (n,) by checksum, `seconds` (n,) since the epoch, UNKNOWN where nobody kept it.
    """

    predicted: NDArray[np.str_]
    signals: Mapping[str, Floats]
    projected: NDArray[np.float16]
    clients: NDArray[np.int64]
    seconds: NDArray[np.int64]

    @classmethod
    def of(cls, baseline: Baseline, window: Traffic, rows: NDArray[np.int64]) -> SliceRows:
        """The window's `rows`; of more than 5,000 evenly so many."""
        kept = rows if len(rows) <= MOST_ROWS else rows[np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)]
        texts = [window.texts[row] for row in kept.tolist()]
        told = [text for text in texts if text is not None]
        unknown = novelty(told, baseline.words) if len(told) == len(texts) else np.full(len(texts), np.nan)
        signals = {name: window.signals[name][kept] for name in SIGNALS} | {"vocabulary": unknown}
        clients = np.array([crc32(window.units[row].encode()) for row in kept.tolist()], dtype=np.int64)
        seconds = np.full(len(kept), UNKNOWN) if window.seconds is None else window.seconds[kept]
        return cls(window.predicted[kept], signals, window.projected[kept].astype(np.float16), clients, seconds)

    def __len__(self) -> int:
        return len(self.predicted)

    def followed_by(self, other: SliceRows | None) -> SliceRows:
        """Both, in order."""
        if other is None:
            return self
        return SliceRows(
            np.concatenate([self.predicted, other.predicted]),
            {name: np.concatenate([self.signals[name], other.signals[name]]) for name in _COLUMNS},
            *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in _PLAIN),
        )

    @cached_property
    def dependence(self) -> Dependence:
        """Which of the rows may depend on each other."""
        return Dependence.of(self.clients, None if (self.seconds == UNKNOWN).any() else self.seconds)

    @cached_property
    def worth(self) -> float:
        """How many independent rows a row is worth in general, by the ranks of what is usual about each."""
        kinds = self.dependence.kinds
        return min([self.dependence.worth(rankdata(self.signals[name])) for name in SIGNALS]) if kinds else 1.0

    def part(self, rows: slice | NDArray[np.bool_]) -> SliceRows:
        """Some of the rows."""
        signals = {name: self.signals[name][rows] for name in _COLUMNS}
        return SliceRows(self.predicted[rows], signals, *(getattr(self, name)[rows] for name in _PLAIN))


@dataclass(frozen=True)
class SliceMemory:
    """`references`: the declared slices' first rows; `waiting`: newer ones, too few for a test; `usual`: explains."""

    references: Mapping[str, SliceRows] = field(default_factory=dict)
    waiting: Mapping[str, SliceRows] = field(default_factory=dict)
    usual: UsualValues = field(default_factory=UsualValues)

    def fresh(self, baseline: Baseline, window: Traffic, declared: Sequence[str]) -> dict[str, SliceRows]:
        """Of each declared slice in the window the rows that wait and the window's own.

        A value of a declared key becomes a slice with ten rows in one window, until there are fifty slices.
        """
        if window.metadata is None or not declared:
            return {}
        found = {}
        admitted = {*self.references, *(entry for entry in declared if "=" in entry)}
        for name, rows in window.metadata.rows_by_slice(declared).items():
            if name not in admitted and (len(rows) < ROWS_OF_A_NEWCOMER or len(admitted) >= MAX_SLICES):
                continue
            admitted.add(name)
            own = SliceRows.of(baseline, window, rows)
            found[name] = self.waiting[name].followed_by(own) if name in self.waiting else own
        return found

    def after(self, baseline: Baseline, window: Traffic, report: DriftReport, declared: Sequence[str]) -> SliceMemory:
        """The memory once the window was judged: what moved is not learnt as a slice's reference, nor as usual."""
        moved = {finding.slice for finding in report.slices if finding.significant}
        references, waiting = dict(self.references), dict(self.waiting)
        for name, rows in self.fresh(baseline, window, declared).items():
            known = references.get(name)
            if testable(known, rows) or known is None or len(known) < LEAST_REFERENCE:
                waiting.pop(name, None)
                if name not in moved:
                    joined = rows if known is None else known.followed_by(rows)
                    references[name] = joined.part(slice(0, REFERENCE_ROWS))
            else:
                waiting[name] = rows
        usual = self.usual if report.verdict is Verdict.DRIFT else self.usual.joined_by(window)
        return dataclasses.replace(self, references=references, waiting=waiting, usual=usual)

    def to_bytes(self) -> bytes:
        """As npz."""
        arrays: dict[str, NDArray[np.generic]] = {}
        names: dict[str, list[str]] = {}
        for group, members in (("references", self.references), ("waiting", self.waiting)):
            names[group] = list(members)
            arrays[f"{group}/sizes"] = np.array([len(rows) for rows in members.values()], dtype=np.int64)
            if members:
                [first, *others] = members.values()
                for other in others:
                    first = first.followed_by(other)
                arrays |= {f"{group}/{name}": getattr(first, name) for name in ("predicted", *_PLAIN)}
                arrays |= {f"{group}/{name}": first.signals[name].astype(np.float32) for name in _COLUMNS}
        text = json.dumps({"names": names, "usual": self.usual.to_json()})
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, text=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, state: bytes | None) -> SliceMemory:
        """From `to_bytes`; empty, so that it starts anew, without a state or if another version of Leeway kept it."""
        if state is None:
            return cls()
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
                text = json.loads(arrays["text"].tobytes())
                groups = {group: _split(group, names, arrays) for group, names in text["names"].items()}
                return cls(groups["references"], groups["waiting"], UsualValues.from_json(text["usual"]))
        except (EOFError, ValueError, KeyError, BadZipFile):
            return cls()


NO_MEMORY = SliceMemory()


def testable(reference: SliceRows | None, rows: SliceRows) -> bool:
    """Whether there is enough on both sides."""
    return reference is not None and len(reference) >= LEAST_REFERENCE and len(rows) >= LEAST_ROWS


def _split(group: str, names: Sequence[str], arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, SliceRows]:
    if not names:
        return {}
    ends = np.cumsum(arrays[f"{group}/sizes"])
    signals = {name: np.asarray(arrays[f"{group}/{name}"], dtype=np.float64) for name in _COLUMNS}
    plain = (np.asarray(arrays[f"{group}/{name}"]) for name in _PLAIN)
    rows = SliceRows(np.asarray(arrays[f"{group}/predicted"]), signals, *plain)
    starts = [0, *ends[:-1].tolist()]
    return {name: rows.part(slice(int(start), int(end))) for name, start, end in zip(names, starts, ends, strict=True)}
