"""Bundles in storage under their hash: registered against whom, and what is said when one is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.core.bundle import Bundle, BundleConfig, seal, write_config
from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.ledger.database import Ledger
from monitoring.core.registry import Registry
from monitoring.core.settings import load_settings
from monitoring.core.types import ModelVersion, Stage
from tests.contract.people import champion


@pytest.fixture
def ledger(home: Path) -> Ledger:
    return open_ledger(load_settings())


@pytest.fixture
def registry(ledger: Ledger) -> Registry:
    return open_registry(load_settings(), ledger)


def small_bundle(folder: Path, *, parent: str | None = None) -> Bundle:
    """Whole by its manifest, though nothing in it could run."""
    folder.mkdir()
    for name in ("tokenizer.json", "reference.npz", "baseline.npz", "evaluation.json", "model.fp32.onnx"):
        (folder / name).write_text(f"{name} of {folder.name}")
    lineage = {"cause": "drift", "parent": parent}
    write_config(folder, BundleConfig("support", ("billing", "delivery"), 1.0, 64, "fp32", 32, 8, lineage))
    return seal(folder)


def add(registry: Registry, bundle: Bundle, *, passed: bool = True) -> ModelVersion:
    return registry.add(bundle, evidence={}, actor="worker", gates_passed=passed)


def test_what_was_measured_against_a_champion_replaced_meanwhile_does_not_wait_for_approval(
    registry: Registry, ledger: Ledger, tmp_path: Path
) -> None:
    with ledger.begin() as connection:
        serving = champion(connection)
    assert add(registry, small_bundle(tmp_path / "now", parent=serving.id)).stage is Stage.AWAITING_APPROVAL
    assert add(registry, small_bundle(tmp_path / "late", parent="gone")).stage is Stage.REJECTED
    assert add(registry, small_bundle(tmp_path / "bad", parent=serving.id), passed=False).stage is Stage.REJECTED
    assert add(registry, small_bundle(tmp_path / "alone")).stage is Stage.AWAITING_APPROVAL
