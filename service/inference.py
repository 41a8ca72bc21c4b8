"""The way of one request through the engine: assigned, queued, answered in time, recorded, mirrored."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson

from monitoring.core.errors import DeadlineExceeded, LeewayError, Overloaded
from monitoring.core.ids import new_id, unit_hash
from monitoring.core.settings import ServerSettings
from monitoring.core.types import Clock, Variant
from service import shadow
from service.engine.pool import Pool
from service.engine.recorder import Recorder, answers_of
from service.engine.work import NO_ROLLOUT, Answer, Call, FinishedBatch, Work
from service.metrics import Metrics
from service.routing import Part, RoutingTable

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.05  # most answers come sooner; only those that do not are worth watching for a caller who leaves
Gone = Callable[[], Awaitable[None]]


class CallerGone(LeewayError):
    """The caller hung up before the answer was ready."""

    code = "caller_gone"


class Inference:
    """Answers texts. `predict` belongs to the event loop; what follows a model call runs on its inference thread."""

    def __init__(
        self,
        *,
        settings: ServerSettings,
        threads: int,
        table: Callable[[], RoutingTable],
        recorder: Recorder,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._table = table
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self.pool = Pool(
            threads=threads,
            capacity=settings.queue_size,
            shadow_capacity=settings.shadow_queue_size,
            finish=self._finish,
            observe_tokenize=metrics.tokenized,
        )

    async def predict(
        self,
        model: str,
        texts: Sequence[str],
        *,
        caller: str,
        within: float | None,
        key: str | None,
        metadata: Mapping[str, str],
        top_k: int,
        gone: Gone,
        pinned: Part | None = None,
    ) -> list[Answer]:
        """The answers to `texts`, in their order, `within` so many seconds if they are fewer than the server's own.

        `caller` is who asked, for callers take turns. `gone` returns when the caller has left.
        The rollout decides who answers, unless the caller has `pinned` a version; then no other answers in its place.

        Raises NotFound, NotReady, Overloaded, DeadlineExceeded, CallerGone, or LeewayError where the model fails.
        """
        started = time.perf_counter()
        route = self._table().route(model)
        ids = [new_id() for _ in texts]
        call = Call(
            model=model,
            unit=unit_hash(ids[0] if key is None else key),
            at_us=int(self._clock().timestamp() * 1_000_000),
            started=started,
            metadata=orjson.dumps(metadata).decode() if metadata else "{}",
            top_k=top_k,
        )
        part = pinned or route.part(call.unit)
        party = f"{model}\0{caller}"
        longest = self._settings.deadline_seconds
        deadline = call.loop.time() + (longest if within is None else min(within, longest))
        await self._answered(call, _works(call, range(len(texts)), ids, texts, part, party), deadline, gone)
        if call.failures and part.variant is Variant.CANDIDATE and pinned is None:
            # callers must not suffer for the experiment; outside of the rollout, or these would bias the champion's arm
            spare = Part(route.champion, Variant.PRODUCTION, NO_ROLLOUT)
            await self._answered(call, _works(call, sorted(call.failures), ids, texts, spare, party), deadline, gone)
        if call.failures:
            raise LeewayError("the model failed on this text; the server's log says why", field=_field(call.failures))
        return [call.answers[row] for row in range(len(texts))]

    async def _answered(self, call: Call, works: Sequence[Work], deadline: float, gone: Gone) -> None:
        """Queue the works and wait until each has its answer or its failure."""
        call.expect(len(works))
        try:
            self.pool.submit(works, within=deadline - call.loop.time())
        except Overloaded:
            self._metrics.failed(works, "overload")
            raise
        try:
            await _first_of(call.done, deadline, gone)
        except DeadlineExceeded:
            late = self.pool.abandon(works)
            self._metrics.failed(late, "deadline")
            ended = time.perf_counter()
            await asyncio.to_thread(self._recorder.record_failures, late, DeadlineExceeded.code, ended=ended)
            raise
        except (CallerGone, asyncio.CancelledError):
            self.pool.abandon(works)
            raise

    def _finish(self, batch: FinishedBatch) -> None:
        """Record first, then answer, then count and mirror."""
        if batch.predictions is None:
            reason = batch.error or ""
            self._recorder.record_failures(batch.works, reason, ended=batch.ended)
            _deliver(batch.works, [reason] * len(batch.works))
            self._metrics.batch(batch)
            return
        answers = answers_of(batch, logged_top_k=self._settings.top_k)
        self._recorder.record(batch, answers)
        recorded = time.perf_counter()
        _deliver(batch.works, answers)
        self._metrics.batch(batch)
        self._metrics.recorded(recorded - batch.ended)
        self._metrics.shadow_answered(batch, shadow.agreements(batch, answers))
        copies = shadow.copies(batch, answers)
        if copies and (dropped := self.pool.offer(copies)):
            self._metrics.shadow_dropped(copies[0].call.model, dropped)


def _works(
    call: Call, rows: Sequence[int], ids: Sequence[str], texts: Sequence[str], part: Part, party: str
) -> list[Work]:
    return [
        Work(call, row, ids[row], texts[row], part.target, part.variant, part.step, party, part.shadow) for row in rows
    ]


async def _first_of(done: asyncio.Future[None], deadline: float, gone: Gone) -> None:
    """Return when `done` is; raise DeadlineExceeded or CallerGone where that comes first."""
    loop = done.get_loop()
    await asyncio.wait((done,), timeout=min(PATIENCE_SECONDS, deadline - loop.time()))
    if done.done():
        return
    watcher = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((done, watcher), timeout=max(deadline - loop.time(), 0), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watcher.cancel()
    if done.done():
        return
    if watcher.done():
        raise CallerGone("the caller left before the answer was ready")
    raise DeadlineExceeded("no answer within the deadline: the machine is busy, try again or send fewer texts")


def _deliver(works: Sequence[Work], results: Sequence[Answer | str]) -> None:
    """Hand results to their calls, with one wake-up for each event loop that waits for some."""
    waiting: dict[asyncio.AbstractEventLoop, list[tuple[Work, Answer | str]]] = {}
    for work, result in zip(works, results, strict=True):
        if work.variant is not Variant.SHADOW:
            waiting.setdefault(work.call.loop, []).append((work, result))
    for loop, deliveries in waiting.items():
        try:
            loop.call_soon_threadsafe(_deliver_here, deliveries)
        except RuntimeError:  # the loop has ended, and its callers with it
            log.warning("%d answer(s) came after the server had stopped", len(deliveries))


def _deliver_here(deliveries: Sequence[tuple[Work, Answer | str]]) -> None:
    for work, result in deliveries:
        work.call.deliver(work.row, result)


def _field(rows: Mapping[int, str]) -> str:
    return f"inputs[{min(rows)}]"
