"""Bundles in storage under their hash: registered against whom, and what is said when one is damaged."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from monitoring.core.bundle import Bundle, BundleConfig, seal, write_config
from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.errors import BrokenBundle, NotFound
from monitoring.core.ledger.database import Ledger
from monitoring.core.registry import Registry
from monitoring.core.settings import load_settings
from monitoring.core.storage import Storage
from monitoring.core.types import ModelVersion, Stage
from tests.contract.people import champion


@pytest.fixture
def ledger(home: Path) -> Ledger:
    return open_ledger(load_settings(), create=True)


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


def damage(registry_home: Path, version: ModelVersion) -> Path:
    stored = registry_home / "storage" / version.bundle_uri / "model.fp32.onnx"
    stored.write_bytes(stored.read_bytes()[:-1])
    return stored.parent


def test_a_damaged_bundle_is_named_where_it_lies_with_the_cure(registry: Registry, home: Path, tmp_path: Path) -> None:
    version = add(registry, small_bundle(tmp_path / "one"))
    registry.check(version)
    folder = damage(home, version)
    for look in (registry.check, registry.fetch):
        with pytest.raises(BrokenBundle) as caught:
            look(version)
        assert caught.value.message == (
            f"{folder}: model.fp32.onnx was altered or cut (its hash differs from the manifest): "
            "restore it from a backup, or `leeway reject support@1`"
        )
    serving = replace(version, stage=Stage.PRODUCTION)
    with pytest.raises(BrokenBundle, match="or `leeway rollback support` while the version before it stands by"):
        registry.fetch(serving)


def test_an_absent_bundle_too(registry: Registry, home: Path, tmp_path: Path) -> None:
    version = add(registry, small_bundle(tmp_path / "one"))
    shutil.rmtree(home / "storage" / version.bundle_uri)
    with pytest.raises(NotFound, match=r"is not in the storage at .*restore it from a backup"):
        registry.fetch(version)
    with pytest.raises(BrokenBundle, match=f"{version.bundle_uri} is not a Leeway bundle.*restore it"):
        registry.check(version)


def test_in_an_object_store_manifest_and_sizes_are_looked_at(ledger: Ledger, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    registry = open_registry(load_settings(storage_url=url), ledger)
    version = add(registry, small_bundle(tmp_path / "one"))
    registry.check(version)
    model = f"{version.bundle_uri}/model.fp32.onnx"
    Storage(url).put_bytes(model, b"cut")
    with pytest.raises(BrokenBundle, match=r"memory://.*: model.fp32.onnx was cut .*: restore it"):
        registry.check(version)
    Storage(url).put_bytes(f"{version.bundle_uri}/manifest.json", b"{}")
    with pytest.raises(BrokenBundle, match="not a Leeway bundle"):
        registry.check(version)
