"""Several threads that start the same thing at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from monitoring.core.errors import LeewayError

T = TypeVar("T")


def race(act: Callable[[int], T], runners: int) -> list[T | LeewayError]:
    """What `act(number)` returned to each runner, or how it was refused; any other exception is raised."""
    barrier = Barrier(runners)

    def run(number: int) -> T | LeewayError:
        barrier.wait()
        try:
            return act(number)
        except LeewayError as refusal:
            return refusal

    with ThreadPoolExecutor(runners) as pool:
        return list(pool.map(run, range(runners)))
