"""Waiting for another process: as short as possible, and never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0


def wait_until(holds: Callable[[], bool]) -> None:
    """Return as soon as it holds; fail if it does not within a minute."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
