"""Answers of bundles to texts, each computed once: scoring is most of a replay's time, and depends on nothing else.

What is kept depends on the bundle and the text alone, so that other windows, budgets or leeways score nothing again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from monitoring.core.bundle import Bundle
from monitoring.core.runtime import ClassifierRuntime, concatenate
from monitoring.core.signals import Predictions

KEY_BYTES = 16


class CachedScores:
    """Answers by the runtime that serves, kept in a folder: a part for each call that had something new to score."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, _Kept] = {}
        self.scored = 0

    def score(self, bundle: Bundle, texts: Sequence[str]) -> Predictions:
        """The bundle's answers to the texts, at least one, in their order."""
        if bundle.hash not in self._kept:
            self._kept[bundle.hash] = _Kept(self._folder / bundle.hash[:20])
        kept = self._kept[bundle.hash]
        keys = [hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest() for text in texts]
        unknown = {key: text for key, text in zip(keys, texts, strict=True) if key not in kept.rows}
        if unknown:
            kept.add(list(unknown), self._predict(bundle, kept, list(unknown.values())))
            self.scored += len(unknown)
        return kept.take(keys)

    def _predict(self, bundle: Bundle, kept: _Kept, texts: Sequence[str]) -> Predictions:
        """Batches side by side, a core each: faster than many cores on one short batch."""
        if kept.runtime is None:
            kept.runtime = ClassifierRuntime(bundle, threads=1)
        runtime, size = kept.runtime, bundle.config.max_batch
        encoded = runtime.encode(texts)
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
        batches = [[encoded[row] for row in order[start : start + size]] for start in range(0, len(order), size)]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            parts = list(pool.map(runtime.run, batches))
        return concatenate(parts, np.argsort(np.array(order), kind="stable"))


class _Kept:
    """One bundle's answers: `rows` says in which row those to a text, named by its hash, are."""

    def __init__(self, folder: Path) -> None:
        self.runtime: ClassifierRuntime | None = None
        self.rows: dict[bytes, int] = {}
        self._folder = folder
        self._parts: list[Predictions] = []
        for path in sorted(folder.glob("*.npz")):
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                    answers = Predictions(**{name: arrays[name] for name in Predictions.__dataclass_fields__})
                    self._remember(_keys_in(arrays["keys"]), answers)
            except (ValueError, KeyError, TypeError, BadZipFile):  # cut short or of another format: scored again
                path.unlink()

    def add(self, keys: Sequence[bytes], answers: Predictions) -> None:
        """Keep new answers, first on disk: a part is there whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{len(self.rows):09d}-{keys[0].hex()[:12]}.npz"
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            np.savez(file, keys=np.frombuffer(b"".join(keys), dtype=np.uint8), **vars(answers))
        unfinished.rename(path)
        self._remember(keys, answers)

    def take(self, keys: Sequence[bytes]) -> Predictions:
        """The answers named, in that order."""
        if len(self._parts) > 1:
            self._parts = [concatenate(self._parts)]
        places = np.array([self.rows[key] for key in keys])
        return Predictions(**{name: values[places] for name, values in vars(self._parts[0]).items()})

    def _remember(self, keys: Sequence[bytes], answers: Predictions) -> None:
        start = sum(map(len, self._parts))
        self.rows |= {key: start + row for row, key in enumerate(keys)}
        self._parts.append(answers)


def _keys_in(joined: NDArray[np.uint8]) -> list[bytes]:
    said = joined.tobytes()
    return [said[start : start + KEY_BYTES] for start in range(0, len(said), KEY_BYTES)]
