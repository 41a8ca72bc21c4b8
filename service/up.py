"""`leeway up`: the roles together on one machine.

An answer to a caller never waits for, or fails because of, monitoring: a monitor or worker that dies is started again,
and given up loudly in the end, while serving goes on. Only the death of `serve` ends all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from monitoring.core.cli import LISTENING
from service.restart import next_start

if TYPE_CHECKING:
    from monitoring.core.settings import Settings

PLAY = "from service.up import play; play()"
COLOURS = {"serve": "cyan", "monitor": "magenta", "worker": "yellow", "up": "green"}
TRAINS_WITH = ("torch", "transformers", "peft")
STOP_SECONDS = 20.0
LAST_WORDS_SECONDS = 1.0
LONGEST_LINE = 1 << 20
LAST_LINES = 8
"""Said again when a role is given up: what it said long ago has scrolled away by then."""
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
    others = ["monitor"]
    if all(find_spec(package) is not None for package in TRAINS_WITH):
        others.append("worker")
    else:
        tell("up", "no training worker: install it with pip install 'leeway[train]'; all else runs", warn=True)
    sys.exit(asyncio.run(Troupe(others, settings).run()))


@dataclass
class Part:
    """A role and the process that plays it."""

    role: str
    process: asyncio.subprocess.Process
    since: float
    """When it was started, in the event loop's seconds."""
    listening: asyncio.Task[None]

    async def end(self) -> float:
        """Wait until it has ended and its last words are shown; how many seconds it lived."""
        await self.process.wait()
        lived = asyncio.get_running_loop().time() - self.since
        await asyncio.wait([self.listening], timeout=LAST_WORDS_SECONDS)  # what it started may hold its output open
        return lived


class Troupe:
    """Starts `serve` and the others, shows what they say, starts the others again, and stops all together."""

    def __init__(self, others: Sequence[str], settings: Settings) -> None:
        self._others = others
        self._settings = settings
        self._parts: dict[str, Part] = {}
        self._ports: dict[str, asyncio.Future[int]] = {}
        self._said: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LAST_LINES))
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Until Ctrl-C or SIGTERM: 0; or until `serve` ends by itself, or where one cannot be started at all: 1."""
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, self._asked_to_stop)
        for role in ("serve", *self._others):
            self._ports[role] = asyncio.get_running_loop().create_future()
            try:
                await self._start(role)
            except OSError as error:
                tell("up", f"{role} COULD NOT BE STARTED ({error}): stopping all", warn=True)
                tell("up", "free some memory or processes, then start `leeway up` anew", warn=True)
                await self._stop_all()
                return 1
        announcing = asyncio.create_task(self._announce())
        keeping = [asyncio.create_task(self._keep_or_tell(role)) for role in self._others]
        serving = asyncio.create_task(self._parts["serve"].end())
        asked = asyncio.create_task(self._stop.wait())
        await asyncio.wait([asked, serving], return_when=asyncio.FIRST_COMPLETED)
        fallen = not self._stop.is_set()
        if fallen:
            tell("up", f"serve HAS ENDED with {_ending(self._parts['serve'])}: stopping the others", warn=True)
        for task in (announcing, asked, *keeping):
            task.cancel()
        await asyncio.gather(announcing, asked, *keeping, return_exceptions=True)  # what went wrong is told by then
        await self._stop_all()
        tell("up", "all have stopped")
        return 1 if fallen else 0

    async def _keep_or_tell(self, role: str) -> None:
        """Keep a role; if even that fails, say so: nothing else would before all stop."""
        try:
            await self._keep(role)
        except Exception as error:
            tell("up", f"{role} IS NOT KEPT any more, {type(error).__name__}: {error}", warn=True)
            tell("up", f"serving goes on; where {role} has ended, start `leeway up` anew", warn=True)

    async def _keep(self, role: str) -> None:
        """Start a role again whenever it has died; return when it is given up."""
        quick = 0
        lived, ended = await self._end(role)
        while True:
            following = next_start(lived, quick)
            died = f"{role} {ended}, {following.reason}"
            if following.wait is None:
                tell("up", f"{died}: GIVEN UP; serving goes on without it", warn=True)
                if self._said[role]:
                    tell("up", f"the last that {role} said:", warn=True)
                for line in self._said[role]:
                    tell(role, line, warn=True)
                tell("up", f"put that right, then run `leeway {role}` beside this or start `leeway up` anew", warn=True)
                return
            tell("up", f"{died}: starting it again in {following.wait:.0f} s, serving goes on", warn=True)
            await asyncio.sleep(following.wait)
            quick = following.quick
            try:
                await self._start(role)
            except OSError as error:  # no memory or no process left for it: as if it had died at once
                lived, ended = 0.0, f"COULD NOT BE STARTED ({error})"
            else:
                lived, ended = await self._end(role)

    async def _end(self, role: str) -> tuple[float, str]:
        """Wait until it has ended: how many seconds it lived, and how that ended."""
        part = self._parts[role]
        lived = await part.end()
        return lived, f"HAS ENDED with {_ending(part)}"

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            tell("up", "asked again: killing them", warn=True)
            self._kill()
        else:
            tell("up", "stopping; once more to kill")
        self._stop.set()

    async def _stop_all(self) -> None:
        for part in self._parts.values():
            if part.process.returncode is None:
                part.process.terminate()
        ends = [asyncio.create_task(part.end()) for part in self._parts.values()]
        if not ends:
            return
        _, late = await asyncio.wait(ends, timeout=STOP_SECONDS)
        if late:
            names = ", ".join(part.role for part in self._parts.values() if part.process.returncode is None)
            tell("up", f"killing {names}: not stopped after {STOP_SECONDS:.0f} s", warn=True)
            self._kill()
            await asyncio.wait(ends)

    def _kill(self) -> None:
        """With whatever they started: each leads a process group of its own."""
        for part in self._parts.values():
            if part.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(part.process.pid, signal.SIGKILL)

    async def _announce(self) -> None:
        """Say where to go, once our own roles say that they are there: at the port, somebody else may answer."""
        api = _url(self._settings.server.host, await self._ports["serve"])
        tell("up", f"ready  API      {api}/docs")
        tell("up", f"       console  {api}/console")
        tell("up", f"       metrics  {api}/metrics")
        gauges = _url(self._settings.monitor.host, await self._ports["monitor"])
        tell("up", f"       monitor  {gauges}/metrics")

    async def _start(self, role: str) -> None:
        process = await _spawn(role)
        since = asyncio.get_running_loop().time()
        self._parts[role] = Part(role, process, since, asyncio.create_task(self._listen(role, process)))
        tell("up", f"{role} started, process {process.pid}")

    async def _listen(self, role: str, process: asyncio.subprocess.Process) -> None:
        """Show what it says; take note of its port when it names that."""
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than anybody would read
                continue
            if not line:
                return
            said = line.decode(errors="replace").rstrip()
            tell(role, said)
            self._said[role].append(said)
            if not self._ports[role].done() and (found := OWN_PORT.search(said)):
                self._ports[role].set_result(int(found[1]))


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


async def _spawn(role: str) -> asyncio.subprocess.Process:
    """Its standard input is a pipe that nobody writes to: it ends when we do, even by `kill -9`."""
    return await asyncio.create_subprocess_exec(
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


def _leave_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)


def _ending(part: Part) -> str:
    code = part.process.returncode or 0
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _url(host: str, port: int) -> str:
    reachable = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
