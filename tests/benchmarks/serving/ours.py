"""Leeway under measurement: with everything on, or with all that watches taken out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import orjson
import psutil

from monitoring.core.bundle import Bundle
from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.ledger import access, versions
from monitoring.core.settings import load_settings
from monitoring.core.types import Role, utc_now
from service.demo.backstage import free_ports
from service.exchange import predict_path
from tests.approving import approve
from tests.benchmarks.serving.running import Endpoint, Running, running, started
from tests.benchmarks.trained import MODEL

LEEWAY = [str(Path(sys.executable).with_name("leeway"))]
QUICK = {"LEEWAY_ROLLOUT__CONTROLLER_SECONDS": "0.5"}
UNWATCHED = [sys.executable, "-m", "tests.benchmarks.serving.unwatched"]


class Home:
    """A home folder with the model in production, and a key to ask it."""

    def __init__(self, folder: Path) -> None:
        os.environ["LEEWAY_HOME"] = str(folder.absolute())
        settings = load_settings()
        ledger = open_ledger(settings)
        with ledger.read() as connection:
            version = versions.find(connection, model=MODEL)[0]
            in_production = versions.model_state(connection, MODEL).production is not None
        if not in_production:
            approve(ledger, version.name)
        now = utc_now()
        with ledger.begin() as connection:
            self.key = access.add_key(
                connection, name=f"bench {now.isoformat()}", roles=[Role.PREDICT], actor="bench", now=now
            )
        self.bundle: Bundle = open_registry(settings, ledger).fetch(version)
        self.settings = settings
        self.folder = folder
        ledger.close()
        self._logs = folder / "logs"

    @contextmanager
    def serving(self, texts: Sequence[str]) -> Iterator[Running]:
        """`leeway serve` and, once it answers, `leeway monitor` beside it. Raises NotStarted."""
        with self._at_work("serve", LEEWAY, texts) as server, self._monitor() as (monitor, _):
            server.beside.append(monitor)
            yield server

    def unwatched(self, texts: Sequence[str]) -> AbstractContextManager[Running]:
        """The same server without log, signals and metrics, and nothing beside it. Raises NotStarted."""
        return self._at_work("unwatched", UNWATCHED, texts)

    def _at_work(self, name: str, command: Sequence[str], texts: Sequence[str]) -> AbstractContextManager[Running]:
        [port] = free_ports(1)
        bodies = [orjson.dumps({"inputs": [text]}) for text in texts]
        endpoint = Endpoint(f"http://127.0.0.1:{port}", predict_path(MODEL), bodies, self.key)
        command = [*command, "serve", "--port", str(port)]
        return running(command, endpoint, log=self._logs / f"{name}.log", environment=os.environ | QUICK)

    def _monitor(self) -> AbstractContextManager[tuple[psutil.Process, float]]:
        log = self._logs / "monitor.log"
        environment = os.environ | {"LEEWAY_MONITOR__PORT": "0"}
        return started([*LEEWAY, "monitor"], lambda: "watching" in log.read_text(), log=log, environment=environment)
