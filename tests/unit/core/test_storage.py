"""What only a local folder can promise: other users read it, and nothing half-written is ever seen under its name."""

from __future__ import annotations

import stat
from pathlib import Path
from tempfile import mkdtemp

import pytest

from monitoring.core.errors import MisConfigured
from monitoring.core.storage import Storage


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_and_files_can_be_read_by_other_users(tmp_path: Path) -> None:
    private = Path(mkdtemp(dir=tmp_path))
    (private / "manifest.json").write_text("{}")
    storage = Storage(str(tmp_path / "storage"))
    storage.put_folder(private, "bundles/one")
    storage.put_bytes("reports/one.html", b"hello")
    fetched = storage.fetch_folder("bundles/one", tmp_path / "cache" / "one")
    assert mode(tmp_path / "storage/bundles/one") == mode(fetched) == 0o755
    assert mode(tmp_path / "storage/reports/one.html") == 0o644


def test_what_a_crash_left_behind_is_not_seen(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    (tmp_path / "bundles" / ".incoming-x").mkdir(parents=True)
    assert not storage.exists("bundles/one")


def test_a_folder_that_somebody_else_brought_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(name)
    storage = Storage(str(tmp_path / "storage"))
    storage.put_folder(tmp_path / "theirs", "bundles/one")
    monkeypatch.setattr(storage, "exists", lambda _: False)  # as it was when this call looked
    storage.put_folder(tmp_path / "mine", "bundles/one")
    assert storage.get_bytes("bundles/one/manifest.json") == b"theirs"
    assert [path.name for path in (tmp_path / "storage/bundles").iterdir()] == ["one"]


@pytest.mark.parametrize("url", ["nonsense://bucket", "carrier-pigeon://x"])
def test_an_unknown_kind_of_storage_is_named(url: str) -> None:
    with pytest.raises(MisConfigured, match="storage_url") as caught:
        Storage(url)
    assert caught.value.field == "storage_url"
