"""A model trained on the material by `leeway train`, in a home of its own: made once, kept in build/bench."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import monitoring
import training
from monitoring.core.bundle import MANIFEST, Bundle, open_bundle
from tests.benchmarks.material import Material

MODEL = "bench"
LENIENT = {"LEEWAY_GATES__MAX_CALIBRATION_ERROR": "0.9"}
"""The benches measure; whether a small model would do for a customer does not matter to them."""


def train(material: Material, folder: Path) -> Path:
    """The home with the model, made in `folder` unless it is there. Raises OSError, RuntimeError."""
    home = folder / f"model-{_digest(material)}"
    if list(home.rglob(MANIFEST)):
        return home
    print(f"training a head on {len(material.train):,} texts of {material.name} ...", file=sys.stderr, flush=True)
    for stale in folder.glob("model-*"):
        shutil.rmtree(stale)
    home.mkdir(parents=True)
    data = home / "training.csv"
    material.write_training(data)
    command = [str(Path(sys.executable).with_name("leeway")), "train", "--data", str(data), "--split-column", "split"]
    environment = {**os.environ, **LENIENT, "LEEWAY_HOME": str(home)}
    done = subprocess.run([*command, "--model", MODEL, "--json"], env=environment, capture_output=True, text=True)
    if not list(home.rglob(MANIFEST)):
        raise RuntimeError(f"leeway train failed with {done.returncode}: {done.stderr[-2000:]}")
    return home


def bundle_in(home: Path) -> Bundle:
    """The model's bundle."""
    return open_bundle(min(home.rglob(MANIFEST)).parent)


def _digest(material: Material) -> str:
    """What decides what a bundle, its ledger and its answers are: a change of any trains anew."""
    digest = hashlib.sha256(repr(material).encode())
    for source in _sources():
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    train, core = Path(training.__path__[0]), Path(monitoring.__path__[0]) / "core"
    yield from sorted(train.rglob("*.py"))
    yield from (core / name for name in ("bundle.py", "runtime.py", "signals.py"))
    yield from sorted((core / "ledger").rglob("*.py"))
