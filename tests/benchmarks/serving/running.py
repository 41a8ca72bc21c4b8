"""A server under measurement, ours or a peer's: started, timed to its first answer, loaded, weighed, ended."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from service.load import Borne, Plan, make_load

START_SECONDS = 180.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.01
TIMEOUT_SECONDS = 60.0
MB = 1e6


class NotStarted(Exception):
    """The server gave no answer in time, or ended."""


@dataclass(frozen=True)
class Endpoint:
    """Where a server answers, and the requests it gets, each with one text."""

    url: str
    path: str
    bodies: Sequence[bytes]
    key: str = ""


@dataclass(frozen=True)
class Running:
    """A server at work. `beside`: processes that belong to it, such as the monitor."""

    endpoint: Endpoint
    process: psutil.Process
    first_answer_seconds: float
    beside: list[psutil.Process] = field(default_factory=list)

    def load(self, *, seconds: float, callers: int = 1, rate: float | None = None) -> Borne:
        """Put load on it."""
        return make_load(
            Plan(
                url=self.endpoint.url,
                path=self.endpoint.path,
                api_key=self.endpoint.key,
                bodies=self.endpoint.bodies,
                texts_per_request=1,
                seconds=seconds,
                callers=callers,
                rate=rate,
                timeout=TIMEOUT_SECONDS,
            )
        )

    def cpu_seconds(self) -> float:
        """That all its processes have used so far."""
        total = 0.0
        for process in family(self.process, *self.beside):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory_mb(self) -> float:
        """Of the serving processes; what they share counts once."""
        total = 0
        for process in family(self.process):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / MB


def family(*roots: psutil.Process) -> list[psutil.Process]:
    """The processes and all that they started."""
    found: list[psutil.Process] = []
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            found += [root, *root.children(recursive=True)]
    return found


@contextmanager
def running(
    command: Sequence[str], endpoint: Endpoint, *, log: Path, environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[Running]:
    """The server from its first answer on. Raises NotStarted."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        began = time.perf_counter()
        popen = subprocess.Popen(command, env=dict(environment), cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    process = psutil.Process(popen.pid)
    try:
        first_answer = wait_for_answer(endpoint, popen, began, log)
        yield Running(endpoint, process, first_answer)
    finally:
        end(process)


@contextmanager
def role(command: Sequence[str], *, ready: str, log: Path, environment: Mapping[str, str]) -> Iterator[psutil.Process]:
    """A process beside a server from the moment when it says `ready`. Raises NotStarted."""
    with log.open("wb") as output:
        began = time.perf_counter()
        popen = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT)
    process = psutil.Process(popen.pid)
    try:
        while ready not in log.read_text(errors="replace"):
            _check(popen, began, log)
            time.sleep(POLL_SECONDS)
        yield process
    finally:
        end(process)


def wait_for_answer(endpoint: Endpoint, popen: subprocess.Popen[bytes], began: float, log: Path) -> float:
    """Ask until it answers; seconds since `began`. Raises NotStarted."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {endpoint.key}"}
    request = urllib.request.Request(endpoint.url + endpoint.path, endpoint.bodies[0], headers, method="POST")
    while True:
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
                response.read()
                return time.perf_counter() - began
        except (urllib.error.URLError, OSError):
            _check(popen, began, log)
            time.sleep(POLL_SECONDS)


def end(process: psutil.Process) -> None:
    """Ask it to end, and make sure that nothing of it is left."""
    members = family(process)
    with suppress(psutil.NoSuchProcess):
        process.terminate()
    psutil.wait_procs(members[:1], timeout=STOP_SECONDS)
    left = [member for member in {*members, *family(process)} if member.is_running()]
    for member in left:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(left, timeout=STOP_SECONDS)


def _check(popen: subprocess.Popen[bytes], began: float, log: Path) -> None:
    if popen.poll() is not None or time.perf_counter() - began > START_SECONDS:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise NotStarted(lines[-1][:300] if lines else f"ended with {popen.returncode}")
