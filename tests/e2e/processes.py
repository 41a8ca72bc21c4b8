"""`leeway` as people run it: commands and roles, each a process of its own on the home folder of LEEWAY_HOME."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

MAIN = (sys.executable, "-c", "from monitoring.core.cli import main; main()")
PATIENCE = 300.0
LOOK = 0.1


def leeway(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; nobody sits at the keyboard."""
    return subprocess.run(
        [*MAIN, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL
    )


class Role:
    """A role at work, such as `leeway serve`, and what it has said so far."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*MAIN, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self.said: list[str] = []
        self._news = threading.Condition()
        self._silent = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def until(self, text: str) -> str:
        """Wait until it says a line that has `text`."""
        with self._news:
            self._news.wait_for(lambda: self._line(text) is not None or self._silent, PATIENCE)
            line = self._line(text)
        assert line is not None, f"{text!r} was never said:\n{''.join(self.said)}"
        return line

    def children(self) -> list[int]:
        """The processes that it has started itself."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def clean_up(self) -> None:
        """Let nothing of it outlive the test."""
        self.kill()
        self._listener.join(PATIENCE)  # until its children have ended as well
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _line(self, text: str) -> str | None:
        return next((line for line in self.said if text in line), None)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.said.append(line)
                self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / LOOK)):
        if condition():
            return
        pause.wait(LOOK)
    raise AssertionError(f"after {PATIENCE:.0f} s still not so: {what}")


def is_running(pid: int) -> bool:
    """Whether the process does anything still; one that has ended and waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
