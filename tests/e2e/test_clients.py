"""Clients that others publish for the Open Inference Protocol talk to `leeway serve` unchanged.

They live in an environment of their own, for each brings its own copy of the protocol's messages.
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.ledger import access
from monitoring.core.settings import load_settings
from monitoring.core.types import Role as Permission
from monitoring.core.types import utc_now
from tests.approving import approve
from tests.bundles import make_bundle
from tests.e2e.processes import Role

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parent / "clients"
ENVIRONMENT = Path("build/clients")  # kept
PACKAGES = ("kserve==0.21.0", "tritonclient[grpc,http]==2.73.0")


@dataclass(frozen=True)
class Served:
    """Where it answers, and a key that may predict."""

    http: str
    grpc: str
    key: str


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter that has the clients."""
    python = ENVIRONMENT / "bin" / "python"
    if not (installed := ENVIRONMENT / "-".join(PACKAGES).replace("[", "-").replace("]", "-")).exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
        subprocess.run([*pip, *PACKAGES], check=True, stdout=sys.stderr)
        installed.touch()
    return python


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with the model `support` in production."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LEEWAY_HOME", str(home))
        settings = load_settings()
        ledger = open_ledger(settings, create=True)
        registry = open_registry(settings, ledger)
        bundle = make_bundle(tmp_path_factory.mktemp("bundles") / "support")
        version = registry.add(bundle, evidence={}, actor="test", gates_passed=True)
        approve(ledger, version.name)
        with ledger.begin() as connection:
            key = access.add_key(connection, name="client", roles=[Permission.PREDICT], actor="test", now=utc_now())
        ledger.close()
        server = Role("serve", "--port", "0", "--grpc-port", "0", "--threads", "1")
        http = re.search(r"http://[\d.:]+", server.until("listening on"))
        rpc = re.search(r"gRPC on ([\d.:]+)", server.until("answering gRPC"))
        assert http is not None
        assert rpc is not None
        yield Served(http[0], rpc[1], key)
        assert server.stop() == 0
        server.clean_up()


@pytest.mark.parametrize("script", ["triton_http", "triton_grpc", "kserve_rest", "kserve_grpc"])
def test_a_published_client_is_answered(python: Path, served: Served, script: str) -> None:
    address = served.grpc if script.endswith("grpc") else served.http
    done = subprocess.run(
        [python, SCRIPTS / f"{script}.py", address, served.key],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
