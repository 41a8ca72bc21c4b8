"""Children of metrics, looked up once and kept: `.labels()` costs more than the update that follows it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from prometheus_client import Counter, Histogram

Made = TypeVar("Made")


class Kept(Generic[Made]):
    """What `make` made in `metrics` of values of `labels`. Thread-safe; what is dropped is made anew when asked for."""

    def __init__(self, make: Callable[..., Made], labels: tuple[str, ...], *metrics: Counter | Histogram) -> None:
        self._make = make
        self._labels = labels
        self._metrics = metrics
        self._making = threading.Lock()
        self._made: dict[tuple[str, ...], Made] = {}

    def of(self, *values: str) -> Made:
        """The children with these values of the labels."""
        made = self._made.get(values)
        if made is not None:
            return made
        with self._making:  # or what is dropped meanwhile would be kept, and count where nobody sees it
            made = self._made[values] = self._make(*values)
        return made

    def drop(self, *values: str) -> None:
        """Remove all that have these values of the first labels."""
        with self._making:
            for metric in self._metrics:
                metric.remove_by_labels(dict(zip(self._labels, values, strict=False)))
            for made in [made for made in self._made if made[: len(values)] == values]:
                del self._made[made]
