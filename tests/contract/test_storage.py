"""Folders and files come back as they were put, whole or not at all, from any kind of storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.core.errors import NotFound
from monitoring.core.storage import Storage

FILES = {"manifest.json": b"{}", "model.onnx": bytes(range(256)) * 100, "card.md": "é".encode()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_comes_back_as_it_was_put(storage: Storage, folder: Path, tmp_path: Path) -> None:
    assert not storage.exists("bundles/support/abc")
    assert storage.put_folder(folder, "bundles/support/abc") == "bundles/support/abc"
    assert storage.exists("bundles/support/abc")
    target = tmp_path / "cache" / "abc"
    assert storage.fetch_folder("bundles/support/abc", target) == target
    assert content_of(target) == FILES
    assert [path.name for path in target.parent.iterdir()] == ["abc"]


def test_a_folder_under_a_known_name_is_not_put_again(storage: Storage, folder: Path) -> None:
    storage.put_folder(folder, "bundles/one")
    (folder / "card.md").write_text("changed")
    storage.put_folder(folder, "bundles/one")
    assert storage.get_bytes("bundles/one/card.md") == FILES["card.md"]


def test_a_folder_that_was_cut_short_does_not_exist_and_can_be_put_again(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    if storage.local:
        (tmp_path / "storage" / "bundles" / ".incoming-one").mkdir(parents=True)
    else:
        storage.put_bytes("bundles/one/model.onnx", b"half")
    assert not storage.exists("bundles/one")
    with pytest.raises(NotFound):
        storage.fetch_folder("bundles/one", tmp_path / "too early")
    storage.put_folder(folder, "bundles/one")
    assert content_of(storage.fetch_folder("bundles/one", tmp_path / "one")) == FILES


def test_fetching_what_was_fetched_meanwhile_keeps_it(storage: Storage, folder: Path, tmp_path: Path) -> None:
    storage.put_folder(folder, "bundles/one")
    target = storage.fetch_folder("bundles/one", tmp_path / "cache" / "one")
    assert storage.fetch_folder("bundles/one", target) == target
    assert content_of(target) == FILES
    assert [path.name for path in target.parent.iterdir()] == ["one"]


def test_a_file_comes_back_and_can_be_replaced(storage: Storage) -> None:
    assert storage.put_bytes("reports/a/b.json", b"old") == "reports/a/b.json"
    storage.put_bytes("reports/a/b.json", b"new")
    assert storage.exists("reports/a/b.json")
    assert storage.get_bytes("reports/a/b.json") == b"new"


def test_what_is_not_there_is_named(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"reports/absent\.json is not in the storage"):
        storage.get_bytes("reports/absent.json")
    with pytest.raises(NotFound, match="bundles/absent is not in the storage"):
        storage.fetch_folder("bundles/absent", tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_what_lies_in_a_folder_is_named_and_can_be_removed(storage: Storage, folder: Path, tmp_path: Path) -> None:
    assert storage.names("bundles") == []
    for name in ("two", "one"):
        storage.put_folder(folder, f"bundles/{name}")
    if storage.local:
        (tmp_path / "storage" / "bundles" / ".incoming-three").mkdir()
    assert storage.names("bundles") == ["one", "two"]
    storage.remove("bundles/one/card.md")
    assert storage.names("bundles/one") == ["manifest.json", "model.onnx"]
    assert storage.names("bundles/two") == sorted(FILES)
    with pytest.raises(NotFound, match=r"card\.md"):
        storage.remove("bundles/one/card.md")
