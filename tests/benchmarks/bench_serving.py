"""How much of what the machine can infer reaches a caller over HTTP, and what watching costs.

    python -m tests.benchmarks.bench_serving

The limit is N threads of one-thread sessions on batches of like length, without queue, log or HTTP. The callers run on
the same cores as the server, so with few cores they take a part of what they measure.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

from monitoring.core.bundle import Bundle
from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.cores import usable_cores
from monitoring.core.ledger import access, approvals, versions
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.settings import load_settings
from monitoring.core.types import Role, utc_now
from service.demo.corpus import own_script

LEEWAY = (sys.executable, "-c", "from monitoring.core.cli import main; main()")
HOME = Path("build/bench-home")  # kept: the model is trained once
MODEL = "support"
TRAINING_ROWS = 600
WARM_UP_SECONDS = 1.0
SECONDS = 8.0
CONCURRENCIES = (1, 8, 64)
WATCHED_AT = 8
ALTERNATIONS = 2


@dataclass(frozen=True)
class Measured:
    """One load: texts a second, and latencies in milliseconds."""

    concurrency: int
    texts_per_second: float
    p50_ms: float
    p99_ms: float


def main() -> None:
    """Measure and print."""
    os.environ["LEEWAY_HOME"] = str(HOME.absolute())
    os.environ["LEEWAY_MONITOR__PORT"] = "0"
    texts = [message.text for message in own_script(np.random.default_rng(0)).drifted]
    bundle, key = prepare()
    cores = usable_cores()
    print(f"{cores} cores, {bundle.config.precision}, batches of at most {bundle.config.max_batch}\n")
    limit = in_process_limit(bundle, texts, threads=cores)
    print(f"{'':24}{'texts/s':>10}{'of limit':>10}{'p50 ms':>10}{'p99 ms':>10}")
    print(f"{'in process, the limit':24}{limit:>10.0f}{'100%':>10}")
    with serving() as port:
        load(port, key, texts, 8, WARM_UP_SECONDS)
        over_http = [load(port, key, texts, concurrency, SECONDS) for concurrency in CONCURRENCIES]
        for measured in over_http:
            show(f"HTTP, {measured.concurrency} at once", measured, limit)
        unwatched, watched = cost_of_watching(port, key, texts)
    show("  not watched", unwatched, limit)
    show("  monitor beside it", watched, limit)
    cost = 1 - watched.texts_per_second / unwatched.texts_per_second
    print(f"\nwatching on the same cores costs {cost:.1%} of the throughput")
    result = {
        "benchmark": "serving",
        "cores": cores,
        "precision": bundle.config.precision,
        "limit_texts_per_second": limit,
        "http": [asdict(measured) | {"of_limit": measured.texts_per_second / limit} for measured in over_http],
        "cost_of_watching": cost,
    }
    print(json.dumps(result))


def prepare() -> tuple[Bundle, str]:
    """The home folder with a small model in production, trained if it is not there yet, and a key for it."""
    settings = load_settings()
    HOME.mkdir(parents=True, exist_ok=True)
    ledger = open_ledger(settings, create=True)
    now = utc_now()
    with ledger.read() as connection:
        missing = not versions.find(connection, model=MODEL)
    if missing:
        train()
    with ledger.begin() as connection:
        version = versions.find(connection, model=MODEL)[-1]
        if versions.model_state(connection, MODEL).production is None:
            lasts = timedelta(hours=1)
            approvals.approve(
                connection, version, person="bench", reason="bench", bundle_hash=None, valid_for=lasts, now=now
            )
        key = access.add_key(connection, name=f"bench {now.isoformat()}", roles=[Role.PREDICT], actor="bench", now=now)
    bundle = open_registry(settings, ledger).fetch(version)
    ledger.close()
    return bundle, key


def train() -> None:
    """A head on MiniLM from a part of the demo's corpus: accuracy does not matter here, speed does not depend on it."""
    rows = own_script(np.random.default_rng(0)).training
    chosen = [row for row in rows if row[2] == "train"][:TRAINING_ROWS]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "messages.csv"
        with data.open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label", "split"), *chosen])
        lenient = os.environ | {"LEEWAY_GATES__MAX_CALIBRATION_ERROR": "0.9"}
        print("training a small model, the first time only ...")
        subprocess.run([*LEEWAY, "train", "--data", str(data), "--model", MODEL, "--json"], env=lenient, check=True)


def in_process_limit(bundle: Bundle, texts: Sequence[str], *, threads: int) -> float:
    """Texts a second by `threads` one-thread sessions, each on batches of like length."""
    runtimes = [ClassifierRuntime(bundle) for _ in range(threads)]
    parts = [texts[number::threads] for number in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for runtime in runtimes:
            runtime.predict(texts[:64])
        began, rounds = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS:
            list(pool.map(lambda pair: pair[0].predict(pair[1]), zip(runtimes, parts, strict=True)))
            rounds += 1
        return rounds * len(texts) / (time.perf_counter() - began)


@contextmanager
def role(*arguments: str, ready: str) -> Iterator[str]:
    """A role at work from the moment when it says `ready`; that line."""
    process = subprocess.Popen([*LEEWAY, *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = next((line for line in process.stderr if ready in line), None)
    if line is None:
        raise SystemExit(f"leeway {arguments[0]} did not start")
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    drain.start()
    try:
        yield line
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        drain.join()
        process.stderr.close()


@contextmanager
def serving() -> Iterator[int]:
    """`leeway serve`; its port."""
    with role("serve", "--port", "0", ready="listening on") as line:
        found = re.search(r"http://[\d.]+:(\d+)", line)
        assert found is not None
        yield int(found[1])


def cost_of_watching(port: int, key: str, texts: Sequence[str]) -> tuple[Measured, Measured]:
    """The same load without and with `leeway monitor`, in turns, since a machine's speed wanders."""
    unwatched, watched = [], []
    for _ in range(ALTERNATIONS):
        unwatched.append(load(port, key, texts, WATCHED_AT, SECONDS / 2))
        with role("monitor", ready="watching"):
            watched.append(load(port, key, texts, WATCHED_AT, SECONDS / 2))
    return mean(unwatched), mean(watched)


def mean(measured: Sequence[Measured]) -> Measured:
    """Of several turns at the same load."""
    return Measured(
        measured[0].concurrency,
        float(np.mean([one.texts_per_second for one in measured])),
        float(np.mean([one.p50_ms for one in measured])),
        float(np.mean([one.p99_ms for one in measured])),
    )


def load(port: int, key: str, texts: Sequence[str], concurrency: int, seconds: float) -> Measured:
    """So many callers, each with one request of one text under way at any time."""

    async def run() -> list[float]:
        stop = time.perf_counter() + seconds
        callers = [call(port, key, texts[number::concurrency], stop) for number in range(concurrency)]
        return [latency for latencies in await asyncio.gather(*callers) for latency in latencies]

    began = time.perf_counter()
    latencies = asyncio.run(run())
    took = time.perf_counter() - began
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return Measured(concurrency, len(latencies) / took, float(p50), float(p99))


async def call(port: int, key: str, texts: Sequence[str], stop: float) -> list[float]:
    """One caller on one connection; seconds of each request. Plain streams: a client library would cost as much as the
    server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies = []
    while (began := time.perf_counter()) < stop:
        body = json.dumps({"inputs": [texts[len(latencies) % len(texts)]]}).encode()
        writer.write(
            f"POST /v1/models/{MODEL}/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise SystemExit(f"the server refused: {head.decode()}")
        length = head.split(b"content-length:")[1].split(b"\r\n")[0]
        await reader.readexactly(int(length))
        latencies.append(time.perf_counter() - began)
    writer.close()
    return latencies


def show(name: str, measured: Measured, limit: float) -> None:
    """A row of the table."""
    share = measured.texts_per_second / limit
    print(
        f"{name:24}{measured.texts_per_second:>10.0f}{share:>10.0%}{measured.p50_ms:>10.1f}{measured.p99_ms:>10.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
