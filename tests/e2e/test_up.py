"""`leeway up` with its real roles: it starts, it stops, serving survives the others, and nobody outlives it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from service.demo.backstage import free_ports
from tests.e2e.processes import PATIENCE, eventually, is_running

pytestmark = pytest.mark.slow

MAIN = "from monitoring.core.cli import main; main()"
IMPATIENT = f"import service.restart; service.restart.WAITS = (0.0,); {MAIN}"
WITHOUT_TORCH = f"import sys; sys.modules['torch'] = None; {MAIN}"


class Running:
    """A `leeway up` under way. Whatever is left of it after the test is killed."""

    def __init__(self, program: str = MAIN, ports: Sequence[int] = ()) -> None:
        self.api, self.gauges = ports or free_ports(2)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "up"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | {"LEEWAY_SERVER__PORT": str(self.api), "LEEWAY_MONITOR__PORT": str(self.gauges)},
        )
        self.said: list[str] = []
        self._overdue = threading.Timer(PATIENCE, self._give_up)
        self._overdue.start()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by role, of those started last."""
        found = (re.search(r"(\w+) started, process (\d+)", line) for line in self.said)
        return {match[1]: int(match[2]) for match in found if match}

    def until(self, text: str) -> str:
        """Read what it says up to the line that has `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was never said:\n{''.join(self.said)}")

    def heard(self, text: str) -> str:
        """The line that has `text`, said already or still to come."""
        return next((line for line in self.said if text in line), None) or self.until(text)

    def rest(self) -> str:
        """Everything it says until it ends."""
        assert self.process.stdout is not None
        self.said += self.process.stdout
        return "".join(self.said)

    def end(self) -> int:
        """Its exit code."""
        self.rest()
        return self.process.wait()

    def _give_up(self) -> None:
        self.said.append(f"(killed: not done after {PATIENCE:.0f} s)\n")
        self.process.kill()

    def clean_up(self) -> None:
        self._overdue.cancel()
        for pid in (self.process.pid, *self.pids.values()):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def initialised(home: Path) -> Path:
    subprocess.run([sys.executable, "-c", MAIN, "init"], check=True, capture_output=True)
    return home


@pytest.fixture
def up(initialised: Path) -> Iterator[Running]:
    running = Running()
    yield running
    running.clean_up()


def test_it_says_where_to_go_serves_and_stops_cleanly_on_ctrl_c(up: Running) -> None:
    line = up.until("ready  API")
    assert f"http://127.0.0.1:{up.api}/docs" in line
    up.until("monitor  http")
    assert list(up.pids) == ["serve", "monitor", "worker"]
    assert httpx.get(f"http://127.0.0.1:{up.api}/v2/health/live").json() == {"live": True}
    assert "API key" in httpx.get(f"http://127.0.0.1:{up.api}/console/login").text
    assert httpx.get(f"http://127.0.0.1:{up.gauges}/metrics").status_code == 200
    up.process.send_signal(signal.SIGINT)
    assert up.end() == 0
    assert not any(map(is_running, up.pids.values()))
    assert "Traceback" not in "".join(up.said)
    assert up.said[-1].endswith("all have stopped\n")


def test_sigterm_stops_it_as_well(up: Running) -> None:
    up.until("ready  API")
    up.process.terminate()
    assert up.end() == 0
    assert not any(map(is_running, up.pids.values()))


def test_the_death_of_serve_ends_all_loudly(up: Running) -> None:
    up.until("ready  API")
    os.kill(up.pids["serve"], signal.SIGKILL)
    assert up.end() == 1
    assert "serve HAS ENDED with signal SIGKILL: stopping the others" in "".join(up.said)
    assert not any(map(is_running, up.pids.values()))


@pytest.mark.parametrize("role", ["monitor", "worker"])
def test_another_that_dies_is_started_again_while_serving_goes_on(up: Running, role: str) -> None:
    up.until("monitor  http")
    before = up.pids
    os.kill(before[role], signal.SIGKILL)
    assert "starting it again in 2 s, serving goes on" in up.until(f"{role} HAS ENDED with signal SIGKILL")
    up.until(f"{role} started")
    assert up.pids == before | {role: up.pids[role]} != before
    assert httpx.get(f"http://127.0.0.1:{up.api}/v2/health/live").json() == {"live": True}
    up.process.send_signal(signal.SIGINT)
    assert up.end() == 0
    assert not any(map(is_running, [*before.values(), *up.pids.values()]))


def test_one_that_dies_again_and_again_is_given_up_and_serving_goes_on(initialised: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        running = Running(IMPATIENT, ports=[*free_ports(1), other.getsockname()[1]])
        try:
            assert "exit code 1, death 2 in a row within 60 s" in running.until("GIVEN UP; serving goes on")
            assert "run `leeway monitor` beside this" in running.until("put that right")
            running.heard("ready  API")
            assert httpx.get(f"http://127.0.0.1:{running.api}/v2/health/live").json() == {"live": True}
            running.process.send_signal(signal.SIGINT)
            assert running.end() == 0
        finally:
            running.clean_up()


def test_nobody_outlives_it_when_it_is_killed(up: Running) -> None:
    up.until("ready  API")
    up.process.kill()
    up.process.wait()
    eventually(lambda: not any(map(is_running, up.pids.values())), "all its roles have left")


def test_without_the_training_extra_all_else_runs(initialised: Path) -> None:
    running = Running(WITHOUT_TORCH)
    try:
        assert "pip install 'leeway[train]'" in running.until("no training worker")
        running.until("ready  API")
        assert list(running.pids) == ["serve", "monitor"]
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 0
    finally:
        running.clean_up()


def test_before_init_the_cure_is_named(home: Path) -> None:
    refused = subprocess.run([sys.executable, "-c", MAIN, "up"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "run `leeway init`" in refused.stderr


def test_where_another_answers_on_the_port_nothing_is_announced_and_the_cure_is_named(initialised: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as api, socket.create_server(("127.0.0.1", 0)) as gauges:
        running = Running(ports=[other.getsockname()[1] for other in (api, gauges)])
        try:
            assert running.end() == 1
        finally:
            running.clean_up()
    said = "".join(running.said)
    assert "ready" not in said
    assert f"port {running.api} on 127.0.0.1 is taken by another process" in said
    assert "server.port in leeway.toml, or LEEWAY_SERVER__PORT" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("role", "section"), [("serve", "server"), ("monitor", "monitor")])
def test_a_role_whose_port_is_taken_says_so_in_one_line(
    initialised: Path, monkeypatch: pytest.MonkeyPatch, role: str, section: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv(f"LEEWAY_{section.upper()}__PORT", str(port))
        refused = subprocess.run([sys.executable, "-c", MAIN, role], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        f"error: port {port} on 127.0.0.1 is taken by another process: stop that one, "
        f"or set another {section}.port in leeway.toml, or LEEWAY_{section.upper()}__PORT"
    )
    assert "Traceback" not in refused.stderr
