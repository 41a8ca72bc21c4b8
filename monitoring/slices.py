"""Slices: parts of the traffic by the metadata that came with the requests, written `channel=chat`.

Declared slices (`monitor.slices`) are judged, and spend from the alarm budget; `channel` declares every value of that
key. Whatever else the metadata hold only explains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_SLICES = 50


@dataclass(frozen=True)
class Metadata:
    """The metadata of n rows: `codes` (n,) point into the distinct `kinds`."""

    codes: NDArray[np.int64]
    kinds: Sequence[Mapping[str, str]]

    @classmethod
    def parse(cls, codes: NDArray[np.int64], kinds: Sequence[str | None]) -> Metadata:
        """From JSON objects; what is none is read as empty."""
        return cls(codes, [read_metadata(kind) for kind in kinds])

    @classmethod
    def joined(cls, parts: Sequence[Metadata]) -> Metadata:
        """The rows of all parts, in their order."""
        starts = np.cumsum([0, *(len(part.kinds) for part in parts)])
        codes = [part.codes + start for part, start in zip(parts, starts, strict=False)]
        return cls(np.concatenate(codes), [kind for part in parts for kind in part.kinds])

    def __len__(self) -> int:
        return len(self.codes)

    def rows_by_slice(self, declared: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """Row numbers of each of the `declared` slices that occurs; a key gives a slice for each of its values."""
        kinds_of: dict[str, list[int]] = {}
        for number, kind in enumerate(self.kinds):
            for name in slices_of(kind, declared):
                kinds_of.setdefault(name, []).append(number)
        found = {name: np.flatnonzero(np.isin(self.codes, kinds)) for name, kinds in kinds_of.items()}
        return {name: rows for name, rows in found.items() if len(rows)}


def read_metadata(text: str | None) -> dict[str, str]:
    """Metadata as the prediction log keeps them; a row of another origin has none."""
    try:
        read: Any = json.loads(text or "{}")
    except ValueError:
        return {}
    return {key: value for key, value in read.items() if isinstance(value, str)} if isinstance(read, dict) else {}


def slices_of(metadata: Mapping[str, str], declared: Sequence[str]) -> tuple[str, ...]:
    """Names of the declared slices that a row of these metadata belongs to.

    >>> slices_of({"channel": "chat", "language": "de"}, ["channel", "language=en"])
    ('channel=chat',)
    """
    names = []
    for entry in declared:
        key, _, value = entry.partition("=")
        if key in metadata and (value == metadata[key] or "=" not in entry):
            names.append(f"{key}={metadata[key]}")
    return tuple(dict.fromkeys(names))


def family_size(declared: Sequence[str]) -> int:
    """How many slices may be judged at most: those that are named, or all fifty where a key leaves it open."""
    return MAX_SLICES if any("=" not in entry for entry in declared) else len(declared)
