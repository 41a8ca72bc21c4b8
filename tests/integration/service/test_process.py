"""`leeway serve` as a process: what it imports, how it starts, ends, and what `kill -9` leaves behind."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from monitoring.core import spool
from monitoring.core.bundle import Bundle
from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.errors import MisConfigured
from monitoring.core.ledger import access
from monitoring.core.settings import load_settings
from monitoring.core.types import Role, utc_now
from service.server import HttpServer
from tests.approving import approve

SERVE = [sys.executable, "-c", "from service.cli_serve import serve; serve()", "--port", "0", "--threads", "1"]


@pytest.fixture
def key(home: Path, champion_bundle: Bundle) -> str:
    """A home folder with a model in production; a key that may predict."""
    settings = load_settings()
    ledger = open_ledger(settings, create=True)
    version = open_registry(settings, ledger).add(champion_bundle, evidence={}, actor="test", gates_passed=True)
    approve(ledger, version.name)
    with ledger.begin() as connection:
        secret = access.add_key(connection, name="test", roles=[Role.PREDICT], actor="test", now=utc_now())
    ledger.close()
    return secret


class Process:
    """A serving process, and its log so far."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(SERVE, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.log: list[dict[str, str]] = []
        for line in self.process.stderr:
            self.log.append(json.loads(line))  # each line of the log is one JSON object
            if listening := re.search(r"listening on (http://\S+)", self.log[-1]["message"]):
                self.url = listening[1]
                break
        else:
            raise AssertionError(f"it ended: {self.log}")

    def stop(self) -> None:
        """End it, if it has not ended yet."""
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


@pytest.fixture
def process(key: str) -> Iterator[Process]:
    process = Process()
    yield process
    process.stop()


def _ask(process: Process, key: str) -> list[str]:
    headers = {"authorization": f"Bearer {key}"}
    body = {"inputs": ["my parcel is late", "refund please"]}
    response = httpx.post(f"{process.url}/v1/models/support/predict", json=body, headers=headers, timeout=30)
    assert response.status_code == 200, response.text
    return [prediction["id"] for prediction in response.json()["predictions"]]


def _spooled(home: Path) -> list[str]:
    folders = spool.writers(home / "spool")
    frames = (frame for folder in folders for frame in spool.read_frames(folder, after=0))
    return [row["prediction_id"] for frame in frames for row in frame.rows]


def test_kill_9_loses_nothing_that_was_answered(process: Process, key: str, home: Path) -> None:
    answered = [one for _ in range(10) for one in _ask(process, key)]
    process.stop()
    assert sorted(_spooled(home)) == sorted(answered)


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(process: Process, key: str, name: signal.Signals) -> None:
    _ask(process, key)
    process.process.send_signal(name)
    assert process.process.wait(timeout=30) == 0


def test_a_port_in_use_is_one_readable_line(key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run([*SERVE, "--port", port], capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert f"port {port} on 127.0.0.1 is taken by another process" in ended.stderr


def test_a_port_that_another_took_while_the_models_were_loaded_is_said_as_well() -> None:
    """Both could bind it, since addresses are reused; only one can listen."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        server = HttpServer(FastAPI(), host="127.0.0.1", port=port, drain_seconds=1, on_end=lambda: None)
        other.listen()
        with pytest.raises(MisConfigured, match=rf"port {port} on 127.0.0.1 is taken.*LEEWAY_SERVER__PORT") as caught:
            server.start()
        server.stop()
    assert caught.value.field == "server.port"


def test_serving_loads_neither_torch_nor_the_table_engine() -> None:
    script = "import sys, service.app, service.server; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    heavy = {
        "torch",
        "transformers",
        "peft",
        "deltalake",
        "pyarrow",
        "pandas",
        "evidently",
        "onnx",
        "sklearn",
        "scipy",
        "alembic",
    }
    assert heavy & set(ended.stdout.split()) == set()
