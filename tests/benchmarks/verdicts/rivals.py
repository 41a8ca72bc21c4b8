"""The rivals: each in an environment of its own under build/bench/envs, run as a script on the same rows as ours."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.core.signals import SIGNALS
from tests.benchmarks.environments import install, why
from tests.benchmarks.verdicts import accuracy
from tests.benchmarks.verdicts.draws import (
    ACCURACY_SCENARIOS,
    BEFORE_CHANGE,
    NO_DRIFT,
    NONE,
    STREAM_SCENARIOS,
    WINDOW_SCENARIOS,
    WINDOW_SIZES,
    Extent,
)
from tests.benchmarks.verdicts.scored import Scored
from tests.benchmarks.verdicts.streams import change_stream

SCRIPTS = Path(__file__).parent / "rival_scripts"
RIVALS = ("evidently", "nannyml", "alibi", "river")
REFERENCES, REFERENCE_ROWS = 5, 20_000
NULL_STREAM, MOST_NULL_STREAMS, MOST_DELAYS = 20_000, 100, 100
SECONDS_PER_RUN, LEAST_SECONDS = 0.3, 60.0
COST_ROWS_PER_RUN, MOST_COST_ROWS = 1_000, 1_000_000
QUIET = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}
"""Nobody is to be told of the run."""


@dataclass(frozen=True)
class Played:
    """What one rival measured; `missing` says why it did not."""

    name: str
    version: str = ""
    windows: Sequence[dict[str, Any]] = ()
    delays: Sequence[dict[str, Any]] = ()
    nulls: Sequence[dict[str, Any]] = ()
    estimates: Sequence[dict[str, Any]] = ()
    costs: Sequence[dict[str, Any]] = ()
    notes: Sequence[str] = field(default=())
    missing: str = ""


def play(names: Sequence[str], scored: Scored, extent: Extent, folder: Path, *, at_once: int) -> list[Played]:
    """Install and run the rivals, in the order given. One that fails is `missing` and stops no other."""
    if not names:
        return []
    rows = folder / "rows.npz"
    write_rows(scored, extent, rows)
    try:
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            return list(pool.map(lambda name: play_one(name, rows, extent, folder / "envs"), names))
    finally:
        rows.unlink()


def play_one(name: str, rows: Path, extent: Extent, environments: Path) -> Played:
    """One rival, installed if need be."""
    try:
        python = install(SCRIPTS / f"{name}.txt", environments / name)
    except (OSError, subprocess.CalledProcessError) as error:
        return Played(name, missing=f"not installed: {why(error)}")
    seconds = max(LEAST_SECONDS, SECONDS_PER_RUN * extent.runs)
    environment = {**os.environ, **QUIET, "RIVAL_SECONDS": str(seconds)}
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            [str(python), str(SCRIPTS / f"run_{name}.py"), str(rows)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=4 * seconds + 300,
        )
        return Played(name, **json.loads(done.stdout.strip().splitlines()[-1]))
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        return Played(name, missing=f"failed: {why(error)}")


def write_rows(scored: Scored, extent: Extent, path: Path) -> None:
    """All rows once, and the row numbers of references, windows and streams (see rival_scripts/exchange.py)."""
    urns = scored.urns
    arrays: dict[str, np.ndarray] = {
        "numeric": np.column_stack([scored.predictions.signal(name) for name in SIGNALS]),
        "numeric_names": np.array(SIGNALS, dtype=np.str_),
        "predicted": scored.predicted,
        "labels": scored.labels,
        "classes": np.array(scored.classes, dtype=np.str_),
        "probabilities": scored.predictions.probabilities.astype(np.float32),
        "embeddings": scored.embeddings,
        "before_change": np.array(BEFORE_CHANGE),
        "cost_rows": np.array(max(50_000, min(MOST_COST_ROWS, COST_ROWS_PER_RUN * extent.runs))),
        "references": np.stack([urns.baseline(REFERENCE_ROWS, number) for number in range(REFERENCES)]),
    }
    for scenario in WINDOW_SCENARIOS:
        for n in WINDOW_SIZES:
            count = extent.rival_windows if scenario.topic == NONE else extent.rival_power_windows(n)
            arrays[f"window|{scenario.name}|{n}"] = np.stack([urns.window(n, scenario, i) for i in range(count)])
    for scenario in ACCURACY_SCENARIOS:
        windows = [urns.window(accuracy.N, scenario, number) for number in range(extent.rival_estimates)]
        arrays[f"estimate|{scenario.name}"] = np.stack(windows)
    nulls = min(MOST_NULL_STREAMS, max(2, extent.runs // 10))
    arrays["stream|none"] = np.stack([urns.stream(NULL_STREAM, NO_DRIFT, number) for number in range(nulls)])
    for scenario in STREAM_SCENARIOS:
        streams = [change_stream(urns, scenario, number) for number in range(min(extent.delays, MOST_DELAYS))]
        arrays[f"stream|{scenario.name}"] = np.stack(streams)
    narrow = {
        name: rows.astype(np.int32) if rows.dtype == np.int64 and rows.ndim == 2 else rows
        for name, rows in arrays.items()
    }
    np.savez(path, allow_pickle=False, **narrow)
