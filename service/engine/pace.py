"""How long a text that joins the queue now will wait: told before it waits in vain.

Where more comes than can be answered, a first-come queue lets everybody wait until just about their deadline, and then
works for callers who have gone. Who cannot be answered in time is refused at once instead, so that the others are.
"""

from __future__ import annotations

SMOOTHING = 0.05
SHARE_OF_DEADLINE = 0.5
"""What may be spent waiting: the estimate is rough, and the answer takes its time, too."""


class Pace:
    """Seconds that a text keeps a thread, smoothed over some twenty batches. Whoever owns it holds the lock."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._seconds: float | None = None  # nothing is known yet

    def observe(self, texts: int, seconds: float) -> None:
        """A thread has spent `seconds` on a batch of `texts`."""
        each = seconds / texts
        self._seconds = each if self._seconds is None else self._seconds + SMOOTHING * (each - self._seconds)

    def wait(self, texts: int) -> float:
        """Seconds until all threads together have answered `texts`; 0 as long as nothing is known."""
        return texts * (self._seconds or 0.0) / self._threads

    def too_long(self, texts: int, within: float) -> bool:
        """Whether so many texts wait that one more could hardly be answered `within` so many seconds."""
        return self.wait(texts) > within * SHARE_OF_DEADLINE
