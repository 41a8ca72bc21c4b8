"""The peers: the same model on the same engine behind other servers, each as its makers ship it and as one tunes it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from monitoring.core.bundle import Bundle
from service.demo.backstage import free_ports
from tests.benchmarks.environments import install, why
from tests.benchmarks.serving.running import Endpoint, NotStarted, Running, running

SCRIPTS = Path(__file__).parent / "peer_scripts"
HAND_MADE = ("fastapi",)
FRAMEWORKS = ("litserve", "mlserver", "bentoml", "ray")
PEERS = HAND_MADE + FRAMEWORKS
OWN_CHOICE = 0
TUNED_BATCH = 8
QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "BENTOML_CONFIG_OPTIONS": "logging.access.enabled=false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "DO_NOT_TRACK": "1",
    "PYTHONWARNINGS": "ignore",
}
"""Nobody is to be told of the run."""


@dataclass(frozen=True)
class Variant:
    """A way to run a peer: processes with a session each, the session's threads, requests in a model call."""

    peer: str
    name: str
    workers: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.peer}, {self.name}"


def variants(peer: str, cores: int) -> list[Variant]:
    """As it comes; a process a core; and that with batches, where the peer can batch."""
    ways = [Variant(peer, "default", 1, OWN_CHOICE, 1), Variant(peer, "a process a core", cores, 1, 1)]
    return ways if peer in HAND_MADE else [*ways, Variant(peer, "and batches", cores, 1, TUNED_BATCH)]


def body(peer: str, text: str) -> bytes:
    """A request for one text as the peer wants it."""
    if peer == "mlserver":
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
        return orjson.dumps({"inputs": [tensor]})
    return orjson.dumps({"inputs": [text]})


@contextmanager
def serving(variant: Variant, bundle: Bundle, file: str, texts: Sequence[str], build: Path) -> Iterator[Running]:
    """The peer at work with the bundle's model `file`, installed if need be. Raises NotStarted."""
    try:
        python = install(SCRIPTS / f"{variant.peer}.txt", build / "envs" / variant.peer).absolute()
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotStarted(f"not installed: {why(error)}") from error
    [port] = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | QUIET
    environment |= {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(SCRIPTS),
        "PEER_BUNDLE": str(bundle.folder.absolute()),
        "PEER_FILE": file,
        "PEER_PORT": str(port),
        "PEER_WORKERS": str(variant.workers),
        "PEER_THREADS": str(variant.threads),
        "PEER_BATCH": str(variant.batch),
    }
    path = "/v2/models/bench/infer" if variant.peer == "mlserver" else "/predict"
    endpoint = Endpoint(f"http://127.0.0.1:{port}", path, [body(variant.peer, text) for text in texts])
    log = build / "logs" / f"{variant}.log".replace(", ", "-").replace(" ", "-")
    command = [str(python), str(SCRIPTS / f"serve_{variant.peer}.py")]
    with running(command, endpoint, log=log, environment=environment, folder=SCRIPTS) as server:
        yield server
