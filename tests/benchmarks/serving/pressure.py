"""Under pressure: versions swapped while 256 callers ask, and three times as many requests as can be answered."""

from __future__ import annotations

import dataclasses
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from monitoring.core.bundle import MANIFEST, Bundle, seal, write_config
from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.ledger import replicas, rollouts
from monitoring.core.ledger.database import Ledger
from monitoring.core.settings import Settings
from monitoring.core.types import ModelVersion, utc_now
from service.load import Borne
from tests.approving import approve
from tests.benchmarks.serving.loads import settle
from tests.benchmarks.serving.running import Running
from tests.benchmarks.trained import MODEL

SWAPS = 10
CALLERS = 256
SERVED_SECONDS = 1.5
"""How long each version is left to serve; a server reads what should twice a second."""
LONGEST_SECONDS = 60.0
OVERLOAD = 3.0
ACT = {"actor": "bench", "reason": "bench"}


@dataclass(frozen=True)
class Swapped:
    """Requests that were lost over so many changes of the version in production, and p99 with and without them."""

    swaps: int
    answered: int
    lost: int
    p99_ms: float
    steady_p99_ms: float


@dataclass(frozen=True)
class Overloaded:
    """What was answered in time, as a share of the peak; memory in MB before and after; refusals and failures by
    status."""

    goodput: float
    answered_per_second: float
    peak: float
    memory_before_mb: float
    memory_after_mb: float
    refused: dict[int, int]
    failed: dict[int, int]
    p99_ms: float


def swap(server: Running, bundle: Bundle, settings: Settings, *, folder: Path, seconds: float) -> Swapped:
    """Promote a new version and go back to the old one, by turns, while CALLERS ask without a pause."""
    steady = server.load(seconds=seconds, callers=CALLERS)
    ledger = open_ledger(settings)
    try:
        versions = [register(bundle, ledger, settings, folder, number) for number in range(SWAPS // 2)]
        borne: list[Borne] = []
        with ThreadPoolExecutor(1) as pool:
            for version in versions:
                let_shadow(ledger, version)
                asked = pool.submit(server.load, seconds=4 * SERVED_SECONDS, callers=CALLERS)
                time.sleep(SERVED_SECONDS)
                promote(ledger)
                time.sleep(SERVED_SECONDS)
                with ledger.begin() as connection:
                    rollouts.restore_previous(connection, MODEL, now=utc_now(), **ACT)
                borne.append(asked.result())
    finally:
        ledger.close()
    return Swapped(
        swaps=2 * len(versions),
        answered=sum(one.answered for one in borne),
        lost=sum(one.requests - one.answered for one in borne),
        p99_ms=max(one.latency_ms["p99"] for one in borne),
        steady_p99_ms=steady.latency_ms["p99"],
    )


def overload(server: Running, *, peak: float, seconds: float) -> Overloaded:
    """OVERLOAD times the peak in open loop."""
    settle(server)
    before = server.memory_mb()
    borne = server.load(seconds=seconds, rate=OVERLOAD * peak)
    return Overloaded(
        goodput=borne.texts_per_second / peak,
        answered_per_second=borne.texts_per_second,
        peak=peak,
        memory_before_mb=before,
        memory_after_mb=server.memory_mb(),
        refused=borne.refused,
        failed=borne.failed,
        p99_ms=borne.latency_ms.get("p99", float("nan")),
    )


def register(bundle: Bundle, ledger: Ledger, settings: Settings, folder: Path, number: int) -> ModelVersion:
    """A further version: the same model under another hash."""
    copy = folder / f"version-{number}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bundle.folder, copy, ignore=shutil.ignore_patterns(MANIFEST))
    lineage = {**bundle.config.lineage, "copy": f"{number} of {utc_now().isoformat()}"}
    write_config(copy, dataclasses.replace(bundle.config, lineage=lineage))
    return open_registry(settings, ledger).add(seal(copy), evidence={}, actor="bench", gates_passed=True)


def let_shadow(ledger: Ledger, version: ModelVersion) -> None:
    """Approve it, and wait until it is warm and shadows. Raises RuntimeError."""
    approve(ledger, version.name)
    stop = time.perf_counter() + LONGEST_SECONDS
    while time.perf_counter() < stop:
        with ledger.read() as connection:
            warm = replicas.all_have_loaded(connection, version.id, now=utc_now())
            if warm and rollouts.open_rollout(connection, version.model) is not None:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{version.name} did not become ready within {LONGEST_SECONDS:g} s")


def promote(ledger: Ledger) -> None:
    """Put what shadows into production."""
    with ledger.begin() as connection:
        rollout = rollouts.open_rollout(connection, MODEL)
        if rollout is None:
            raise RuntimeError("the rollout ended by itself")
        rollouts.promote(connection, rollout, watch=timedelta(hours=1), now=utc_now(), **ACT)
