"""How long work tells where it is: the name of a step and the share of it that is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float], None]
Share = Callable[[float], None]


def silent(step: str, share: float) -> None:
    """For those who do not want to know."""


def log_own_steps() -> None:
    """Log what Leeway does to standard error; what libraries say only from warnings on."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for package in ("training", "monitoring"):
        logging.getLogger(package).setLevel(logging.INFO)


class Steps:
    """Announces each step as it begins and ends, and keeps how many seconds it took."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[Share]:
        """Time the block as `name`; it is handed a function that reports the share done, 0 to 1."""
        self._report(name, 0.0)
        began = time.perf_counter()
        yield lambda share: self._report(name, share)
        self.seconds[name] = round(time.perf_counter() - began, 3)
        self._report(name, 1.0)

    @property
    def total(self) -> float:
        """Seconds of all finished steps."""
        return round(sum(self.seconds.values()), 3)
