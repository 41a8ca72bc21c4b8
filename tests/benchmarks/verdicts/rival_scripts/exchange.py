"""What passes between the bench and a rival: arrays in, one line of JSON out. Needs numpy alone.

The npz holds every row once: `numeric` (rows, k) with `numeric_names`, `predicted` and `labels` (rows,), `embeddings`
(rows, d) and `probabilities` (rows, classes) with the names of the `classes`. Everything else is row numbers:
`references` (r, m), `window|SCENARIO|N` (w, n), judged each against the reference of its number modulo r, and
`stream|SCENARIO` (s, length), in which the scenario begins after `before_change` rows; `estimate|SCENARIO` (w, 500).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

COST_COPIES_SEED = 0
NULL_WEIGHT = 4


class Given:
    """The npz named on the command line."""

    def __init__(self) -> None:
        with np.load(sys.argv[1], allow_pickle=False) as arrays:
            self.arrays = dict(arrays)

    def windows(self) -> Iterator[tuple[str, int, np.ndarray]]:
        """Scenario, size and row numbers (w, n), small windows first."""
        named = [name.split("|") for name in self.arrays if name.startswith("window|")]
        for _, scenario, n in sorted(named, key=lambda parts: int(parts[2])):
            yield scenario, int(n), self.arrays[f"window|{scenario}|{n}"]

    def streams(self) -> Iterator[tuple[str, np.ndarray]]:
        """Scenario and row numbers (s, length)."""
        for name in self.arrays:
            if name.startswith("stream|"):
                yield name.split("|")[1], self.arrays[name]

    def reference(self, number: int) -> np.ndarray:
        """Row numbers (m,) of the reference for a window of that number."""
        references = self.arrays["references"]
        return np.asarray(references[number % len(references)])

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Numeric columns by name, and `predicted`, of those rows."""
        numeric = self.arrays["numeric"][rows]
        columns = {str(name): numeric[:, i] for i, name in enumerate(self.arrays["numeric_names"])}
        return {**columns, "predicted": self.arrays["predicted"][rows]}

    def million(self) -> np.ndarray:
        """Row numbers (`cost_rows`,) for the cost of one large window."""
        reference = self.reference(0)
        return np.random.default_rng(COST_COPIES_SEED).choice(reference, int(self.arrays["cost_rows"]))


class Results:
    """Gathers what is measured; `send` prints it."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.windows: list[dict[str, Any]] = []
        self.delays: list[dict[str, Any]] = []
        self.nulls: list[dict[str, Any]] = []
        self.estimates: list[dict[str, Any]] = []
        self.costs: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def count(self, detector: str, scenario: str, n: int, alarms: list[bool]) -> None:
        """Alarms among windows of one size."""
        self.windows.append(
            {"detector": detector, "scenario": scenario, "n": n, "alarms": int(sum(alarms)), "windows": len(alarms)}
        )

    def cost(self, what: str, rows: int, do: Callable[[], object]) -> None:
        """CPU seconds of `do`, and the largest resident memory of this process so far in GB."""
        began = time.process_time()
        do()
        seconds = time.process_time() - began
        self.costs.append({"what": what, "rows": rows, "cpu_s": seconds, "peak_gb": peak_kilobytes() / 2**20})

    def send(self) -> None:
        """One line of JSON, the last of the output."""
        print(json.dumps(vars(self)), flush=True)


class Clock:
    """Says when a rival has had the time it is given; what it has not done by then is left out, and counted."""

    def __init__(self) -> None:
        self.until = time.monotonic() + float(os.environ.get("RIVAL_SECONDS", "300"))

    def until_of(self, scenarios: Sequence[str]) -> float:
        """When the first of what is still to be done is to end; what it leaves over, the others have.

        Scenarios without drift get more, since a rate of false alarms takes many windows to show.
        """
        weights = [NULL_WEIGHT if scenario == "none" else 1 for scenario in scenarios]
        now = time.monotonic()
        return now + weights[0] / sum(weights) * (self.until - now)


def peak_kilobytes() -> int:
    """Largest resident memory of this process; getrusage alone counts the parent's from before the start."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
