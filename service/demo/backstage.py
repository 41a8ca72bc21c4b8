"""What runs behind the demo: its home folder, Leeway's own roles as subprocesses, and a receiver for the alerts."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monitoring.core.errors import LeewayError

MARKER = ".made-by-leeway-demo"
STOP_SECONDS = 20.0


class Backstage:
    """A fresh home folder and the processes that live on it."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.api_port, self.monitor_port, self.hook_port = free_ports(3)
        self.alerts: list[Mapping[str, Any]] = []
        self._up: asyncio.subprocess.Process | None = None
        self._hook: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def log(self) -> Path:
        """What the roles said."""
        return self.home / "up.log"

    def prepare(self, config: str) -> None:
        """Make the home folder anew; a folder that the demo did not make is left alone. Raises LeewayError."""
        if self.home.exists() and any(self.home.iterdir()):
            if not (self.home / MARKER).exists():
                raise LeewayError(f"{self.home} is not empty and was not made by the demo: choose another --home")
            shutil.rmtree(self.home)
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / MARKER).touch()
        (self.home / "leeway.toml").write_text(config)

    async def leeway(self, *arguments: str, on_line: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
        """Run a `leeway … --json` command; its JSON. Raises LeewayError with what it said when it fails."""
        process = await asyncio.create_subprocess_exec(
            *_leeway(*arguments, "--json"), stdout=-1, stderr=-1, env=self._environment()
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said: list[str] = []

        async def listen(stream: asyncio.StreamReader) -> None:
            async for line in stream:
                said.append(line.decode(errors="replace").rstrip())
                on_line(said[-1])

        output, _ = await asyncio.gather(process.stdout.read(), listen(process.stderr))
        if await process.wait() != 0:
            raise LeewayError(f"leeway {arguments[0]} failed: " + " / ".join(said[-5:]))
        return dict(json.loads(output))

    async def start(self) -> None:
        """Start the alert receiver and `leeway up`."""
        self._hook = await asyncio.start_server(self._receive, "127.0.0.1", self.hook_port)
        with self.log.open("wb") as log:
            self._up = await asyncio.create_subprocess_exec(
                *_leeway("up"), stdout=log, stderr=log, env=self._environment(), start_new_session=True
            )

    def check_alive(self) -> None:
        """Raise LeewayError if `leeway up` has ended."""
        if self._up is not None and self._up.returncode is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-8:]
            raise LeewayError(f"leeway up ended with {self._up.returncode}; {self.log} ends with:\n" + "\n".join(tail))

    async def stop(self) -> None:
        """Stop everything, as Ctrl-C would."""
        if self._hook is not None:
            self._hook.close()
        if self._up is not None and self._up.returncode is None:
            self._up.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(self._up.wait(), STOP_SECONDS)
            except TimeoutError:
                os.killpg(self._up.pid, signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        return os.environ | {"LEEWAY_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
        self.alerts.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(item.getsockname()[1]) for item in sockets]
    for item in sockets:
        item.close()
    return ports


def _leeway(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from monitoring.core.cli import main; main()", *arguments]
