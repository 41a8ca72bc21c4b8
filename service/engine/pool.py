"""The inference threads: as many as there are cores, each running one-thread model calls, all fed from one queue.

A free thread first tokenises what has arrived, then takes the next batch. Production goes before shadow, always.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from monitoring.core.errors import NotReady, Overloaded
from monitoring.core.signals import Predictions
from service.engine.batcher import Line
from service.engine.classifier import LoadedVersion
from service.engine.pace import SHARE_OF_DEADLINE, Pace
from service.engine.work import FinishedBatch, Work

log = logging.getLogger(__name__)

TOKENIZED_AT_ONCE = 32  # more would keep the other threads waiting for their first batch
STOP_SECONDS = 15.0
MAX_REASON = 200
Finish = Callable[[FinishedBatch], None]
Observe = Callable[[float], None]


class Pool:
    """Runs works and hands each finished batch to `finish`, on the inference thread."""

    def __init__(
        self, *, threads: int, capacity: int, shadow_capacity: int, finish: Finish, observe_tokenize: Observe
    ) -> None:
        self._finish = finish
        self._observe_tokenize = observe_tokenize
        self.pace = Pace(threads)
        self._production = Line(capacity)
        self._shadow = Line(shadow_capacity)
        self._changed = threading.Condition()
        self._running = False
        self._told: set[tuple[str, str]] = set()
        self._size = threads
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to work."""
        self._running = True
        for number in range(self._size):
            self._threads.append(threading.Thread(target=self._serve, name=f"inference-{number}", daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Finish what waits, then end; new work is refused at once."""
        with self._changed:
            self._running = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
            if thread.is_alive():
                log.error("inference thread %s is stuck in a model call and was left behind", thread.name)

    def submit(self, works: Sequence[Work], *, within: float = math.inf) -> None:
        """Queue a caller's texts, one at least, all or none. Raises NotReady while stopping.

        Raises Overloaded where there is no room, or so much waits that they could hardly be answered `within` seconds.
        """
        with self._changed:
            if not self._running:
                raise NotReady("the server is stopping: ask another replica or try again")
            self._production.check_share(works[0].party)
            waiting = self._production.ahead(works[0].party)
            if waiting and self.pace.too_long(waiting, within):  # where nothing waits, trying tells the pace anew
                wait = self.pace.wait(waiting)
                raise Overloaded(
                    f"about {wait:.1f} s of work wait, too much for an answer within {within:.1f} s: try again later",
                    retry_after=max(wait - within * SHARE_OF_DEADLINE, 1.0),
                )
            self._wait_in(self._production, works)

    def offer(self, works: Sequence[Work]) -> int:
        """Queue as many shadow copies as there is room for; how many were dropped."""
        with self._changed:
            accepted = works[: max(self._shadow.room, 0)] if self._running else []
            self._wait_in(self._shadow, accepted)
        return len(works) - len(accepted)

    def abandon(self, works: Sequence[Work]) -> list[Work]:
        """Nobody waits for these any more: those not yet answered leave the queue, and are returned."""
        with self._changed:
            left = [work for work in works if not work.finished and not work.abandoned]
            for work in left:
                work.abandoned = True
                self._production.remove(work)
        return left

    def depths(self) -> Counter[str]:
        """Texts that wait for an answer, by model; shadow copies are not among them."""
        with self._changed:
            return self._production.depths()

    def _wait_in(self, line: Line, works: Sequence[Work]) -> None:
        now = time.perf_counter()
        for work in works:
            work.waiting_since = now
        line.add(works)
        self._changed.notify()

    def _serve(self) -> None:
        while (task := self._next_task()) is not None:
            line, unread, batch = task
            began = time.perf_counter()
            try:
                if unread:
                    self._tokenize(line, unread)
                else:
                    self._run(batch)
                    with self._changed:
                        self.pace.observe(len(batch), time.perf_counter() - began)
            except Exception:  # the thread must outlive whatever goes wrong with one batch
                log.exception("an inference thread failed outside of the model")

    def _next_task(self) -> tuple[Line, list[Work], list[Work]] | None:
        """Texts to tokenise or a batch to run; waits for either. None when stopping and nothing is left."""
        with self._changed:
            while True:
                for line in (self._production, self._shadow):
                    unread = line.take_unread(TOKENIZED_AT_ONCE)
                    batch = [] if unread else line.take_batch()
                    if unread or batch:
                        if self._production.has_task or self._shadow.has_task:
                            self._changed.notify()  # whoever takes one task wakes the next thread
                        return line, unread, batch
                if not self._running:
                    return None
                self._changed.wait()

    def _tokenize(self, line: Line, works: list[Work]) -> None:
        began = time.perf_counter()
        try:
            encoded = works[0].target.runtime.encode([work.text for work in works])
        except Exception as error:  # the tokenizer raises bare Exceptions
            with self._changed:
                for work in works:
                    line.remove(work)
            self._done(works, None, error, began)
            return
        with self._changed:
            for work, tokens in zip(works, encoded, strict=True):
                work.encoded = tokens
            line.add_read(works)
        self._observe_tokenize(time.perf_counter() - began)

    def _run(self, batch: list[Work]) -> None:
        began = time.perf_counter()
        try:
            predictions = batch[0].target.runtime.run([work.encoded for work in batch if work.encoded is not None])
            if not np.isfinite(predictions.confidence).all():
                raise FloatingPointError("the model answered with numbers that are not finite")
        except Exception as error:  # ONNX Runtime raises its own kinds
            if len(batch) == 1:
                self._done(batch, None, error, began)
                return
            for work in batch:  # a text that breaks the model must not fail those that happened to share its batch
                self._run([work])
            return
        self._done(batch, predictions, None, began)

    def _done(self, works: list[Work], predictions: Predictions | None, error: Exception | None, began: float) -> None:
        ended = time.perf_counter()
        with self._changed:
            rows = [row for row, work in enumerate(works) if not work.abandoned]
            for row in rows:
                works[row].finished = True
        if not rows:
            return
        reason = None if error is None else self._tell(works[0].target, error)
        self._finish(FinishedBatch([works[row] for row in rows], rows, predictions, reason, began, ended))

    def _tell(self, target: LoadedVersion, error: Exception) -> str:
        """The error as it is recorded with every text; the log gets the first of its kind, not thousands a second."""
        reason = f"{type(error).__name__}: {error}"[:MAX_REASON]
        kind = (target.id, type(error).__name__)
        if kind not in self._told:
            self._told.add(kind)
            log.error("%s failed on a text, the first time so: %s", target.name, reason)
        return reason
