"""The implementations of each port. A PostgreSQL that is missing is skipped with its reason, or fails in CI."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import delete

from monitoring.core.ledger.database import Ledger
from monitoring.core.storage import Storage
from monitoring.core.tables import metadata
from tests.conftest import new_postgres_database


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the migrations make, once."""
    path = tmp_path_factory.mktemp("ledger") / "empty.db"
    with closing(Ledger.open(f"sqlite:///{path}")) as ledger:
        ledger.upgrade()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Ledger]:
    """One database for all tests: each leaves it as empty as it was."""
    with new_postgres_database() as url, closing(Ledger.open(url)) as ledger:
        ledger.upgrade()
        yield ledger


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger with all its tables."""
    if request.param == "postgres":
        shared: Ledger = request.getfixturevalue("shared_postgres")
        yield shared
        with shared.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
        return
    shutil.copyfile(request.getfixturevalue("empty_sqlite"), tmp_path / "ledger.db")
    with closing(Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        yield ledger


@pytest.fixture(params=["folder", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty storage."""
    return Storage(str(tmp_path / "storage") if request.param == "folder" else f"memory://{uuid4().hex}")
