"""The loads that every server bears, and comparisons in which two servers take turns, for a machine's speed wanders."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from service.load import Borne
from tests.benchmarks.serving.limit import Limit
from tests.benchmarks.serving.running import Running

CONCURRENCIES = (1, 8, 64, 256)
COMPARED_AT = 64
WARM_UP_SECONDS = 1.0
QUIET_SHARE, QUIET_SECONDS, LONGEST_WAIT_SECONDS = 0.05, 0.5, 30.0


@dataclass(frozen=True)
class Row:
    """A server's line: what it bore in closed loop by concurrency, and in open loop at the common rate.

    `cpu_ms`: of a request, at COMPARED_AT callers. `ours_over_it`: our texts a second over its, taken in turns.
    `ours_p99_ms`: in those turns. `missing` says why there is nothing else.
    """

    name: str
    closed: dict[int, Borne]
    opened: Borne | None = None
    cpu_ms: float = 0.0
    memory_mb: float = 0.0
    first_answer_s: float = 0.0
    ours_over_it: float = float("nan")
    ours_p99_ms: float = float("nan")
    missing: str = ""


@dataclass(frozen=True)
class Overhead:
    """What watching adds, as a fraction: CPU of all processes a request, and the 99th percentile of latency."""

    cpu: float
    p99: float


def bear(name: str, server: Running, *, seconds: float, rate: float, ours: Running | None = None) -> Row:
    """All loads on one server; at COMPARED_AT callers in turns with `ours`, if it is not that."""
    server.load(seconds=WARM_UP_SECONDS, callers=8)
    turns: list[Borne] = []

    def turn_of_ours(callers: int) -> None:
        if ours is not None and callers == COMPARED_AT:
            turns.append(ours.load(seconds=seconds, callers=callers))

    closed, cpu_ms = {}, {}
    for callers in CONCURRENCIES:
        turn_of_ours(callers)
        settle(server, ours)
        used = server.cpu_seconds()
        closed[callers] = server.load(seconds=seconds, callers=callers)
        cpu_ms[callers] = (server.cpu_seconds() - used) / max(closed[callers].answered, 1) * 1000
        turn_of_ours(callers)
    opened = server.load(seconds=seconds, rate=rate)
    its = closed[COMPARED_AT].texts_per_second
    return Row(
        name,
        closed,
        opened,
        cpu_ms=cpu_ms[COMPARED_AT],
        memory_mb=server.memory_mb(),
        first_answer_s=server.first_answer_seconds,
        ours_over_it=float(np.mean([turn.texts_per_second for turn in turns]) / its) if turns and its else float("nan"),
        ours_p99_ms=float(np.mean([turn.latency_ms["p99"] for turn in turns])) if turns else float("nan"),
    )


def of_limit(server: Running, limit: Limit, callers: int, *, seconds: float, turns: int) -> float:
    """The server's texts a second over the engine's, taken in turns; the median."""

    ratios = []
    for _ in range(turns):
        engine = limit.measure(seconds)
        ratios.append(server.load(seconds=seconds, callers=callers).texts_per_second / engine)
        settle(server)
    return float(np.median(ratios))


def overhead(watched: Running, unwatched: Running, *, rate: float, seconds: float, turns: int) -> Overhead:
    """Both under the same open loop, turn by turn. What the monitor still does after its turn counts as well."""
    began, answered = watched.cpu_seconds(), 0
    bare, bare_answered = unwatched.cpu_seconds(), 0
    slower = []
    for _ in range(turns):
        with_all = watched.load(seconds=seconds, rate=rate)
        settle(watched)
        with_none = unwatched.load(seconds=seconds, rate=rate)
        answered += with_all.answered
        bare_answered += with_none.answered
        slower.append(with_all.latency_ms["p99"] / with_none.latency_ms["p99"] - 1)
    cost = (watched.cpu_seconds() - began) / answered
    bare_cost = (unwatched.cpu_seconds() - bare) / bare_answered
    return Overhead(cost / bare_cost - 1, float(np.median(slower)))


def settle(*servers: Running | None) -> None:
    """Wait until they rest, so that one's turn does not bear the other's work."""
    there = [server for server in servers if server is not None]
    stop = time.perf_counter() + LONGEST_WAIT_SECONDS
    while time.perf_counter() < stop:
        used = sum(server.cpu_seconds() for server in there)
        time.sleep(QUIET_SECONDS)
        if sum(server.cpu_seconds() for server in there) - used < QUIET_SHARE * QUIET_SECONDS:
            return
