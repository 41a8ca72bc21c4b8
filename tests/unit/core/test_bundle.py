"""A bundle opens as it was sealed; every way to break one is told with the file at fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitoring.core import bundle as bundles
from monitoring.core.bundle import BundleConfig, open_bundle, seal, write_config
from monitoring.core.errors import BrokenBundle

MODEL_FILE = "model.fp32.onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Opening looks at hashes and configuration only, so any content will do."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in (bundles.TOKENIZER, bundles.REFERENCE, bundles.BASELINE, MODEL_FILE, bundles.CARD):
        (folder / name).write_bytes(name.encode() * 10)
    (folder / bundles.EVALUATION).write_text('{"accuracy": 0.9}')
    write_config(folder, config())
    seal(folder)
    return folder


def config(**changes: Any) -> BundleConfig:
    values: dict[str, Any] = {
        "model": "support",
        "labels": ("billing", "delivery"),
        "temperature": 1.5,
        "max_tokens": 64,
        "precision": "fp32",
        "max_batch": 32,
        "embedding_size": 384,
        "lineage": {"cause": "initial", "recipe": {"epochs": 3}},
    }
    return BundleConfig(**(values | changes))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / bundles.MANIFEST).read_text())
    change(manifest)
    (folder / bundles.MANIFEST).write_text(json.dumps(manifest))


def test_what_was_sealed_is_what_opens(folder: Path) -> None:
    opened = open_bundle(folder)
    assert opened.config == config()
    assert opened.evaluation() == {"accuracy": 0.9}
    assert opened.path(bundles.CARD).is_file()
    assert open_bundle(folder, expected_hash=opened.hash) == opened


def test_the_hash_names_the_content(folder: Path) -> None:
    before = open_bundle(folder).hash
    assert seal(folder).hash == before
    (folder / bundles.CARD).write_text("another card")
    assert seal(folder).hash != before


@pytest.mark.parametrize("name", [*bundles.REQUIRED, MODEL_FILE, bundles.CARD])
@pytest.mark.parametrize("damage", ["missing", "altered", "cut", "empty"])
def test_a_damaged_file_is_named(folder: Path, name: str, damage: str) -> None:
    content = (folder / name).read_bytes()
    if damage == "missing":
        (folder / name).unlink()
    else:
        changed = {"altered": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-1], "empty": b""}[damage]
        (folder / name).write_bytes(changed)
    with pytest.raises(BrokenBundle, match=name):
        open_bundle(folder)


@pytest.mark.parametrize("name", [*bundles.REQUIRED, MODEL_FILE])
def test_a_bundle_sealed_without_a_required_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BrokenBundle, match=f"lacks {name}"):
        seal(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"3", b'"files"', b"{}", b'{"files": null}', b'{"files": 3}', b'{"files": "ab"}'],
)
def test_a_manifest_that_is_none_is_told(folder: Path, content: bytes) -> None:
    (folder / bundles.MANIFEST).write_bytes(content)
    with pytest.raises(BrokenBundle, match=r"manifest\.json is missing or unreadable"):
        open_bundle(folder)


def test_no_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BrokenBundle, match="is not a Leeway bundle"):
        open_bundle(tmp_path / "absent")


@pytest.mark.parametrize("entry", [None, "sha", 3, [], {}, {"sha256": None}])
def test_a_manifest_entry_without_a_hash_is_refused(folder: Path, entry: object) -> None:
    edit_manifest(folder, lambda manifest: manifest["files"].update({bundles.CARD: entry}))
    with pytest.raises(BrokenBundle, match=r"card\.md"):
        open_bundle(folder)


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_another_format_is_told_with_the_one_that_is_read(folder: Path, number: object) -> None:
    edit_manifest(folder, lambda manifest: manifest.update(format=number))
    with pytest.raises(BrokenBundle, match=rf"bundle format {number!r}; this version reads 1"):
        open_bundle(folder)


def test_another_bundle_than_the_registered_one_is_refused(folder: Path) -> None:
    with pytest.raises(BrokenBundle, match="is not the registered bundle"):
        open_bundle(folder, expected_hash="0" * 64)


@pytest.mark.parametrize("name", ["../secret", "sub/secret", "..", ".", "", "/etc/hostname", "\0"])
def test_a_manifest_never_leads_out_of_the_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("secret")
    (folder / "sub").mkdir()
    (folder / "sub" / "secret").write_text("secret")
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: {"sha256": digest, "bytes": 6}}))
    with pytest.raises(BrokenBundle, match="is in the manifest but not in the folder"):
        open_bundle(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"labels": 3}', '{"labels": ["a"], "colour": "red"}'], ids=lambda text: text or "empty"
)
def test_a_configuration_that_is_none_is_told(folder: Path, content: str) -> None:
    (folder / bundles.CONFIG).write_text(content)
    with pytest.raises(BrokenBundle, match=r"config\.json cannot be read"):
        seal(folder)


def test_the_serving_precision_must_be_there(folder: Path) -> None:
    write_config(folder, config(precision="int8"))
    with pytest.raises(BrokenBundle, match=r"lacks model\.int8\.onnx"):
        seal(folder)


def test_files_beside_the_manifest_do_no_harm(folder: Path) -> None:
    (folder / ".DS_Store").write_text("left by a file manager")
    assert open_bundle(folder).config == config()
