"""What every suite shares: time, randomness, a home folder, and the real servers that some tests need.

A test that needs a server asks for its fixture. Where the server is missing, the test is skipped with the reason and
the cure; where LEEWAY_REQUIRE_SERVERS=1 promises it, as in CI, the test fails instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import settings
from sqlalchemy import create_engine, make_url, text

# Read before `home` clears the environment.
REQUIRE_SERVERS = os.environ.get("LEEWAY_REQUIRE_SERVERS") == "1"
TEST_DATABASE_URL = os.environ.get("LEEWAY_TEST_DATABASE_URL")
TOOLS = os.environ.get("LEEWAY_TOOLS")

# A slow machine is no bug. In CI hypothesis's own profile is in force, which also derandomises.
settings.register_profile("local", deadline=None)
if "CI" not in os.environ:
    settings.load_profile("local")


class FrozenClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, duration: timedelta) -> datetime:
        """Move forward and return the new time."""
        self.now += duration
        return self.now


@pytest.fixture
def clock() -> FrozenClock:
    """A clock frozen at noon UTC of a Monday."""
    return FrozenClock(datetime(2026, 1, 5, 12, tzinfo=UTC))


@pytest.fixture
def rng() -> np.random.Generator:
    """The same stream of randomness in every run."""
    return np.random.default_rng(20260105)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LEEWAY_HOME; no other setting of the surrounding shell reaches the test."""
    for name in [name for name in os.environ if name.startswith("LEEWAY_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("LEEWAY_HOME", str(folder))
    return folder


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A new, empty database on the server that LEEWAY_TEST_DATABASE_URL names; dropped after the test."""
    with new_postgres_database() as url:
        yield url


@contextmanager
def new_postgres_database() -> Iterator[str]:
    """The URL of a new, empty database, dropped in the end. Making one takes a moment: share it where tests can."""
    if not TEST_DATABASE_URL:
        _missing("PostgreSQL", "set LEEWAY_TEST_DATABASE_URL=postgresql+psycopg://USER@HOST:PORT/DATABASE")
    database = f"leeway_test_{uuid4().hex}"
    server = create_engine(TEST_DATABASE_URL, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {database}"))
    yield make_url(TEST_DATABASE_URL).set(database=database).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))
    server.dispose()


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The Prometheus server."""
    return _tool("prometheus")


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus's checker of configurations and rules."""
    return _tool("promtool")


@pytest.fixture(scope="session")
def alertmanager() -> Path:
    """The Alertmanager server; Debian gives it a longer name."""
    return _tool("alertmanager", "prometheus-alertmanager")


@pytest.fixture(scope="session")
def amtool() -> Path:
    """Alertmanager's checker of configurations and routes."""
    return _tool("amtool")


@pytest.fixture(scope="session")
def chromium() -> Path:
    """A browser for playwright's `executable_path`; as root it needs `--no-sandbox`."""
    return _tool("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def docker_compose() -> Path:
    """The checker of docker-compose.yml; it needs no Docker engine for that."""
    return _tool("docker-compose")


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """The builder of kustomizations; it needs no cluster for that."""
    return _tool("kubectl")


def _tool(*names: str) -> Path:
    """The first of `names` that LEEWAY_TOOLS or PATH holds."""
    folders = os.pathsep.join(filter(None, [TOOLS, os.environ.get("PATH")]))
    for name in names:
        if found := shutil.which(name, path=folders):
            return Path(found)
    _missing(names[0], "install it, or name its folder in LEEWAY_TOOLS")


def _missing(server: str, cure: str) -> NoReturn:
    reason = f"{server} is missing: {cure}"
    if REQUIRE_SERVERS:
        pytest.fail(reason)
    pytest.skip(reason)
