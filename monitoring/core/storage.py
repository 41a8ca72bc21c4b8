"""Folders and files at an fsspec URL: bundles, snapshots, reports. Written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from monitoring.core.errors import MisConfigured, NotFound

FOLDER_MODE, FILE_MODE = 0o755, 0o644  # temporary ones are private; other users' processes read here too


class Storage:
    """A local folder or an object store behind the same few calls. Names are relative, with forward slashes."""

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise MisConfigured(f"storage_url {url!r} cannot be used: {error}", field="storage_url") from error

    @property
    def local(self) -> bool:
        """Whether this is a folder of this machine."""
        return isinstance(self._files, LocalFileSystem)

    def put_folder(self, folder: Path, name: str) -> str:
        """Copy a folder in under `name`; nothing happens if it is there already. Returns `name`."""
        if self.exists(name):
            return name
        target = self._path(name)
        if not self.local:
            # object stores have no rename: the manifest goes last, and a folder without it does not exist
            files = sorted(folder.iterdir(), key=lambda path: path.name == "manifest.json")
            for path in files:
                self._files.put_file(str(path), f"{target}/{path.name}")
            return name
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=Path(target).parent, prefix=".incoming-"))
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        staging.chmod(FOLDER_MODE)
        try:
            staging.rename(target)
        except OSError:
            shutil.rmtree(staging)
            if not Path(target).is_dir():
                raise  # not merely somebody else who brought the same content meanwhile
        return name

    def fetch_folder(self, name: str, target: Path) -> Path:
        """Copy a folder out to `target`, which must not exist yet. Raises NotFound."""
        if not self.exists(name):
            raise NotFound(f"{name} is not in the storage at {self._root}")
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".incoming-"))
        for path in self._files.ls(self._path(name), detail=False):
            self._files.get_file(path, str(staging / Path(path).name))
        staging.chmod(FOLDER_MODE)
        try:
            staging.rename(target)
        except OSError:
            shutil.rmtree(staging)
            if not target.is_dir():
                raise
        return target

    def put_bytes(self, name: str, content: bytes) -> str:
        """Write one file; readers see the old content or the new. Returns `name`."""
        target = self._path(name)
        self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        if not self.local:
            self._files.pipe_file(target, content)
            return name
        with tempfile.NamedTemporaryFile(dir=Path(target).parent, prefix=".incoming-", delete=False) as staging:
            staging.write(content)
        Path(staging.name).chmod(FILE_MODE)
        Path(staging.name).rename(target)
        return name

    def get_bytes(self, name: str) -> bytes:
        """Read one file. Raises NotFound."""
        try:
            return bytes(self._files.cat_file(self._path(name)))
        except FileNotFoundError as error:
            raise NotFound(f"{name} is not in the storage at {self._root}") from error

    def locate(self, name: str) -> str:
        """Where it lies, for messages and, in a local storage, to be opened in place."""
        return str(self._files.unstrip_protocol(self._path(name))) if not self.local else self._path(name)

    def size(self, name: str) -> int:
        """Bytes of one file. Raises NotFound."""
        try:
            return int(self._files.size(self._path(name)))
        except FileNotFoundError as error:
            raise NotFound(f"{name} is not in the storage at {self._root}") from error

    def names(self, folder: str) -> list[str]:
        """What lies in a folder, sorted, without what is only on its way in; nothing where there is no such folder."""
        try:
            found = self._files.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(name for path in found if not (name := Path(path).name).startswith(".incoming-"))

    def remove(self, name: str) -> None:
        """Delete one file. Raises NotFound."""
        try:
            self._files.rm_file(self._path(name))
        except FileNotFoundError as error:
            raise NotFound(f"{name} is not in the storage at {self._root}") from error

    def exists(self, name: str) -> bool:
        """Whether a file or folder of that name is there."""
        if self.local:
            return Path(self._path(name)).exists()
        return bool(self._files.isfile(self._path(name)) or self._files.isfile(f"{self._path(name)}/manifest.json"))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"
