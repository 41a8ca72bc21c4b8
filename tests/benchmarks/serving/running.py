"""A server under measurement, ours or a peer's: started, timed to its first answer, loaded, weighed, ended."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
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

    def answers(self) -> bool:
        """Whether it does by now."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(self.url + self.path, self.bodies[0], headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
                response.read()
        except OSError:  # nobody listens yet, or not ready: HTTP errors are such, too
            return False
        return True


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
    with started(command, endpoint.answers, log=log, environment=environment, folder=folder) as (process, seconds):
        yield Running(endpoint, process, seconds)


@contextmanager
def started(
    command: Sequence[str],
    ready: Callable[[], bool],
    *,
    log: Path,
    environment: Mapping[str, str],
    folder: Path | None = None,
) -> Iterator[tuple[psutil.Process, float]]:
    """A process from the moment when it is `ready`, and the seconds until then. Raises NotStarted."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        began = time.perf_counter()
        process = psutil.Popen(command, env=dict(environment), cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        while not ready():
            if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                lines = log.read_text(errors="replace").strip().splitlines()
                raise NotStarted(lines[-1][:300] if lines else f"ended with {process.poll()}")
            time.sleep(POLL_SECONDS)
        yield process, time.perf_counter() - began
    finally:
        end(process)


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
