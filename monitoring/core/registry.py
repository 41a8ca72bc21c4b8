"""The model registry: bundles in storage under their hash, stages in the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from monitoring.core.bundle import MANIFEST, Bundle, open_bundle, read_manifest
from monitoring.core.errors import BrokenBundle, NotFound
from monitoring.core.ledger import versions
from monitoring.core.ledger.database import Ledger
from monitoring.core.storage import Storage
from monitoring.core.types import Clock, ModelVersion, Stage


class Registry:
    """Registers bundles and brings them back, verified, wherever they are needed."""

    def __init__(self, ledger: Ledger, storage: Storage, cache: Path, clock: Clock) -> None:
        self._ledger = ledger
        self.storage = storage
        self._cache = cache
        self._clock = clock

    def add(
        self,
        bundle: Bundle,
        *,
        evidence: Mapping[str, Any],
        actor: str,
        gates_passed: bool,
        conclude: Callable[[Connection, ModelVersion], None] | None = None,
    ) -> ModelVersion:
        """Store a sealed bundle and register it: AWAITING_APPROVAL if its gates passed, else REJECTED.

        REJECTED too where another champion serves by now than the one that the gates compared it with.

        The bundle is stored first, under its hash, so a crash in between leaves an unused folder and nothing half-done.
        `conclude` runs in the registering transaction: what it raises undoes the registration.
        """
        uri = self.storage.put_folder(bundle.folder, f"bundles/{bundle.config.model}/{bundle.hash[:20]}")
        now = self._clock()
        with self._ledger.begin() as connection:
            version = versions.add(
                connection,
                model=bundle.config.model,
                bundle_uri=uri,
                bundle_hash=bundle.hash,
                labels=bundle.config.labels,
                lineage=bundle.config.lineage,
                evidence=evidence,
                actor=actor,
                now=now,
            )
            outdated = versions.outdated(connection, version)
            if not gates_passed:
                stage, reason = Stage.REJECTED, "a gate failed; see the evidence"
            elif outdated is not None:
                stage, reason = Stage.REJECTED, outdated
            else:
                stage, reason = Stage.AWAITING_APPROVAL, "all gates passed"
            version = versions.move(connection, version, stage, actor=actor, reason=reason, now=now)
            if conclude is not None:
                conclude(connection, version)
            return version

    def fetch(self, version: ModelVersion) -> Bundle:
        """The version's bundle in the local cache, fetched and verified.

        Raises BrokenBundle or NotFound: these name the place in storage, where the damage is, and the cure.
        """
        folder = self._cache / version.bundle_hash[:20]
        if folder.exists():
            try:
                return open_bundle(folder, expected_hash=version.bundle_hash)
            except BrokenBundle:  # the copy was damaged here; the storage may still have it whole
                shutil.rmtree(folder)
        with _with_cure(version):
            self.storage.fetch_folder(version.bundle_uri, folder)
            stored = self.storage.locate(version.bundle_uri)
            return open_bundle(folder, expected_hash=version.bundle_hash, known_as=stored)

    def check(self, version: ModelVersion) -> None:
        """Look at the version's bundle in storage. Raises BrokenBundle or NotFound as `fetch` does.

        In a local storage every file is hashed; elsewhere, where that would fetch it all, the manifest is, and the
        other files must be there in their size.
        """
        uri, stored = version.bundle_uri, self.storage.locate(version.bundle_uri)
        with _with_cure(version):
            if self.storage.local:
                open_bundle(Path(stored), expected_hash=version.bundle_hash)
                return
            manifest = self.storage.get_bytes(f"{uri}/{MANIFEST}")
            for name, entry in read_manifest(manifest, stored, expected_hash=version.bundle_hash).items():
                if self.storage.size(f"{uri}/{name}") != entry["bytes"]:
                    raise BrokenBundle(f"{stored}: {name} was cut (its size differs from the manifest)")


@contextmanager
def _with_cure(version: ModelVersion) -> Iterator[None]:
    """Complete what is said about a damaged bundle with what can be done."""
    cures = {
        Stage.PRODUCTION: f", or `leeway rollback {version.model}` while the version before it stands by",
        Stage.AWAITING_APPROVAL: f", or `leeway reject {version.name}`",
    }
    cure = f"restore it from a backup{cures.get(version.stage, '')}"
    try:
        yield
    except BrokenBundle as error:
        raise BrokenBundle(f"{error.message}: {cure}") from error
    except NotFound as error:
        raise NotFound(f"{error.message}: {cure}") from error
