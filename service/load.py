"""Load on a running service, and how it bore it: closed loop (so many callers) or open loop (so many a second).

In open loop requests are due at the arrivals of a Poisson process, whatever the service does, and a latency counts from
the moment when its request was due: a service that stalls cannot hide the requests that had to wait for it (Tene's
"coordinated omission"). Plain streams: a client library would cost as much as the server.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import orjson

from monitoring.core.errors import InvalidInput
from service.exchange import GRACE_SECONDS

QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)
MOST_CONNECTIONS = 1024
CALLER = "leeway load"
"""The key of every request: all are one client's, which the monitor lets count for a few a minute only."""
ANSWERED = 200
NO_ANSWER = 0
REFUSALS = frozenset({429, 503})


@dataclass(frozen=True)
class Plan:
    """One load. `rate`: requests a second in open loop; None: closed loop of `callers`, each with one at a time."""

    url: str
    path: str
    api_key: str
    bodies: Sequence[bytes]
    texts_per_request: int
    seconds: float
    callers: int = 1
    rate: float | None = None
    timeout: float = 30.0
    seed: int = 0


class Exchanged(NamedTuple):
    """One request: when it was due, sent and over, in seconds of one clock; its HTTP status, or NO_ANSWER."""

    due: float
    sent: float
    over: float
    status: int


@dataclass(frozen=True)
class Borne:
    """How the service bore a load of `seconds`. Latencies in ms of what was answered, by quantile.

    `refused`: 429 and 503, the clean refusals; `failed`: everything else, by status, 0 where no answer came.
    `sent_late_ms`: 99 % of the requests were sent at most so long after they were due; where it is not small, this
    process was the bottleneck, or MOST_CONNECTIONS were waiting.
    """

    seconds: float
    requests: int
    answered: int
    refused: dict[int, int]
    failed: dict[int, int]
    texts_per_second: float
    latency_ms: dict[str, float]
    sent_late_ms: float


def bodies_of(texts: Sequence[str], per_request: int) -> list[bytes]:
    """The requests' bodies, each with so many of the texts."""
    grouped = [texts[start : start + per_request] for start in range(0, len(texts), per_request)]
    full = [group for group in grouped if len(group) == per_request] or [(list(texts) * per_request)[:per_request]]
    return [orjson.dumps({"inputs": group, "key": CALLER}) for group in full]


def summarise(exchanged: Sequence[Exchanged], *, texts_per_request: int) -> Borne:
    """Add up. Pure."""
    statuses = Counter(one.status for one in exchanged)
    over = [one for one in exchanged if one.status == ANSWERED]
    took = max((one.over for one in exchanged), default=0.0) - min((one.due for one in exchanged), default=0.0)
    latencies = np.array([one.over - one.due for one in over]) * 1000
    late = np.array([one.sent - one.due for one in exchanged]) * 1000
    return Borne(
        seconds=took,
        requests=len(exchanged),
        answered=len(over),
        refused={status: count for status, count in sorted(statuses.items()) if status in REFUSALS},
        failed={status: count for status, count in sorted(statuses.items()) if status not in REFUSALS | {ANSWERED}},
        texts_per_second=len(over) * texts_per_request / took if took > 0 else 0.0,
        latency_ms={quantile_name(q): float(np.quantile(latencies, q)) for q in QUANTILES} if len(over) else {},
        sent_late_ms=float(np.quantile(late, 0.99)) if len(late) else 0.0,
    )


def tell_counts(statuses: Mapping[int, int]) -> str:
    """How many of which status, in words."""
    told = [f"{count} × {status or 'no answer'}" for status, count in statuses.items()]
    return ", ".join(told) or "none"


def quantile_name(quantile: float) -> str:
    """`p99.9`; `max` for the last."""
    return "max" if quantile == 1.0 else f"p{quantile * 100:g}"


def make_load(plan: Plan) -> Borne:
    """Run it and add up; blocks. Raises InvalidInput for a URL that is none."""
    exchanged: list[Exchanged] = []
    with asyncio.Runner() as runner:
        runner.run(_open_loop(plan, exchanged) if plan.rate is not None else _closed_loop(plan, exchanged))
    return summarise(exchanged, texts_per_request=plan.texts_per_request)


async def _closed_loop(plan: Plan, exchanged: list[Exchanged]) -> None:
    stop = time.perf_counter() + plan.seconds

    async def caller(number: int) -> None:
        connection = Connection(plan)
        place = number
        while (now := time.perf_counter()) < stop:
            status = await connection.ask(plan.bodies[place % len(plan.bodies)])
            exchanged.append(Exchanged(now, now, time.perf_counter(), status))
            place += plan.callers
        connection.close()

    await asyncio.gather(*(caller(number) for number in range(plan.callers)))


async def _open_loop(plan: Plan, exchanged: list[Exchanged]) -> None:
    """Each request is a task of its own. At most MOST_CONNECTIONS are under way; those that wait for one are late."""
    idle: list[Connection] = []
    room = asyncio.Semaphore(MOST_CONNECTIONS)
    asked: set[asyncio.Task[None]] = set()

    async def ask(due: float, body: bytes) -> None:
        async with room:
            connection = idle.pop() if idle else Connection(plan)
            sent = time.perf_counter()
            status = await connection.ask(body)
            exchanged.append(Exchanged(due, sent, time.perf_counter(), status))
            idle.append(connection)

    began = time.perf_counter()
    for place, after in enumerate(arrivals(plan)):
        while (ahead := began + after - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        task = asyncio.ensure_future(ask(began + after, plan.bodies[place % len(plan.bodies)]))
        asked.add(task)
        task.add_done_callback(asked.discard)
    await asyncio.gather(*asked)
    for connection in idle:
        connection.close()


def arrivals(plan: Plan) -> Iterator[float]:
    """When requests are due, in seconds from the beginning: a Poisson process, the same for the same seed."""
    assert plan.rate is not None
    luck = random.Random(plan.seed)
    after = luck.expovariate(plan.rate)
    while after < plan.seconds:
        yield after
        after += luck.expovariate(plan.rate)


class Connection:
    """One keep-alive connection, opened when it is needed, with one request under way at a time."""

    def __init__(self, plan: Plan) -> None:
        """Raises InvalidInput if the plan's URL is none."""
        parts = urlsplit(plan.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"{plan.url!r} is no URL of a service: give http://HOST:PORT", field="url")
        self._host, self._tls = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._head = (
            f"POST {parts.path.rstrip('/')}{plan.path} HTTP/1.1\r\n"
            f"Host: {parts.netloc.rpartition('@')[2]}\r\nAuthorization: Bearer {plan.api_key}\r\n"
            f"X-Request-Timeout: {plan.timeout:g}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._timeout = plan.timeout
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: bytes) -> int:
        """The status of the answer, or NO_ANSWER: there was none within the timeout."""
        try:
            async with asyncio.timeout(self._timeout + GRACE_SECONDS):
                reader, writer = await self._open()
                writer.write(self._head + str(len(body)).encode() + b"\r\n\r\n" + body)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError):
            self.close()
            return NO_ANSWER
        if b"connection: close" in head:
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():  # the server has closed it meanwhile
            self.close()
        if self._streams is None:
            context = ssl.create_default_context() if self._tls else None
            self._streams = await asyncio.open_connection(self._host, self._port, ssl=context)
        return self._streams
