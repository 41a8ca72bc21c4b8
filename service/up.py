"""`leeway up`: the roles together on one machine. One that dies brings all down, loudly; nothing is restarted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from monitoring.core.cli import LISTENING

if TYPE_CHECKING:
    from monitoring.core.settings import Settings

PLAY = "from service.up import play; play()"
COLOURS = {"serve": "cyan", "monitor": "magenta", "worker": "yellow", "up": "green"}
TRAINS_WITH = ("torch", "transformers", "peft")
STOP_SECONDS = 20.0
LONGEST_LINE = 1 << 20
OWN_PORT = re.compile(re.escape(LISTENING) + r"http://\S+:(\d+)")


@click.command()
def up() -> None:
    """Run service, monitor and training worker together until Ctrl-C."""
    from monitoring.core.errors import MisConfigured
    from monitoring.core.ledger import access
    from service.cli_common import open_home

    settings, ledger = open_home()
    with ledger.read() as connection:
        if not access.has_keys(connection):
            raise MisConfigured("there is no API key yet: run `leeway init`")
    ledger.close()
    roles = ["serve", "monitor"]
    if all(find_spec(package) is not None for package in TRAINS_WITH):
        roles.append("worker")
    else:
        tell("up", "no training worker: install it with pip install 'leeway[train]'; all else runs", warn=True)
    sys.exit(asyncio.run(Troupe(roles, settings).run()))


@dataclass
class Part:
    """A role and the process that plays it."""

    role: str
    process: asyncio.subprocess.Process
    port: asyncio.Future[int]
    """The port that it serves on, once it says so; a role without one never does."""


class Troupe:
    """Starts roles, shows what they say, and stops them together."""

    def __init__(self, roles: Sequence[str], settings: Settings) -> None:
        self._roles = roles
        self._settings = settings
        self._parts: list[Part] = []
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Until Ctrl-C or SIGTERM: 0; or until a role ends by itself: 1."""
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, self._asked_to_stop)
        listeners = []
        for role in self._roles:
            part = await _start(role)
            self._parts.append(part)
            listeners.append(asyncio.create_task(_listen(part)))
        announcing = asyncio.create_task(self._announce())
        fallen = await self._first_to_fall()
        announcing.cancel()
        if fallen is not None:
            tell("up", f"{fallen.role} HAS ENDED with {_ending(fallen.process)}: stopping the others", warn=True)
        await self._stop_all()
        await asyncio.gather(*listeners)
        tell("up", "all have stopped")
        return 0 if fallen is None else 1

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            tell("up", "asked again: killing them", warn=True)
            self._kill()
        else:
            tell("up", "stopping; once more to kill")
        self._stop.set()

    async def _first_to_fall(self) -> Part | None:
        """The first role that ends by itself; None when asked to stop before."""
        asked = asyncio.create_task(self._stop.wait())
        ends = {asyncio.create_task(part.process.wait()): part for part in self._parts}
        done, pending = await asyncio.wait([asked, *ends], return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return None if asked in done else next(part for task, part in ends.items() if task in done)

    async def _stop_all(self) -> None:
        for part in self._parts:
            if part.process.returncode is None:
                part.process.terminate()
        waits = [asyncio.create_task(part.process.wait()) for part in self._parts]
        _, late = await asyncio.wait(waits, timeout=STOP_SECONDS)
        if late:
            names = ", ".join(part.role for part in self._parts if part.process.returncode is None)
            tell("up", f"killing {names}: not stopped after {STOP_SECONDS:.0f} s", warn=True)
            self._kill()
            await asyncio.wait(waits)

    def _kill(self) -> None:
        """With whatever they started: each leads a process group of its own."""
        for part in self._parts:
            if part.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(part.process.pid, signal.SIGKILL)

    async def _announce(self) -> None:
        """Say where to go, once our own roles say that they are there: at the port, somebody else may answer."""
        ports = {part.role: part.port for part in self._parts}
        api = _url(self._settings.server.host, await ports["serve"])
        gauges = _url(self._settings.monitor.host, await ports["monitor"])
        tell("up", f"ready  API      {api}/docs")
        tell("up", f"       console  {api}/console")
        tell("up", f"       metrics  {api}/metrics and {gauges}/metrics")


def play() -> None:
    """What a child process runs: one role, which leaves when `leeway up` does, however that ends."""
    from monitoring.core.cli import main

    threading.Thread(target=_leave_with_parent, name="leave-with-parent", daemon=True).start()
    sys.argv[0] = "leeway"
    main()


def tell(role: str, line: str, *, warn: bool = False) -> None:
    """One line with its role in front, coloured where that can be seen."""
    colour = "red" if warn else COLOURS[role]
    click.echo(click.style(f"{role:>7} │ ", fg=colour, bold=True) + (click.style(line, fg=colour) if warn else line))


async def _start(role: str) -> Part:
    """Its standard input is a pipe that nobody writes to: it ends when we do, even by `kill -9`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PLAY,
        role,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LONGEST_LINE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # Ctrl-C is for us to pass on
    )
    tell("up", f"{role} started, process {process.pid}")
    return Part(role, process, asyncio.get_running_loop().create_future())


async def _listen(part: Part) -> None:
    assert part.process.stdout is not None
    while True:
        try:
            line = await part.process.stdout.readline()
        except ValueError:  # longer than anybody would read
            continue
        if not line:
            return
        said = line.decode(errors="replace").rstrip()
        tell(part.role, said)
        if not part.port.done() and (found := OWN_PORT.search(said)):
            part.port.set_result(int(found[1]))


def _leave_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)


def _ending(process: asyncio.subprocess.Process) -> str:
    code = process.returncode or 0
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _url(host: str, port: int) -> str:
    reachable = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
