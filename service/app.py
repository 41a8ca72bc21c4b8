"""The composition root of the serving process: makes the parts, starts and stops them in order, in tests as in `serve`.

service = Service.create(settings)
service.start()     # the champions are loaded, the controller runs; service.app can be called
service.stop()      # what waits is answered, the spool is closed, this replica has left
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from monitoring.core.cli import open_ledger, open_registry
from monitoring.core.cores import usable_cores
from monitoring.core.ids import new_id
from monitoring.core.runtime import ClassifierRuntime
from monitoring.core.settings import Settings
from monitoring.core.spool import SpoolWriter
from monitoring.core.types import Clock, utc_now
from service.auth import SECURITY_SCHEMES, Keyring
from service.context import Context
from service.controller import Controller
from service.edge import Edge
from service.engine.classifier import RuntimeFactory
from service.engine.recorder import Recorder
from service.inference import Inference
from service.lean import lean_routes
from service.metrics import Metrics, StateCollector
from service.routes import console, errors, feedback, health, labels, oip, operate, predict
from service.serving import Serving
from service.version import program_version

DESCRIPTION = (
    "Classify texts, send back what you learn about the answers, and steer which version answers. "
    "Every error has the shape `{error: {code, message, field}}`."
)


@dataclass(frozen=True)
class Service:
    """One serving process. A server calls `app`; `api` inside of it knows all routes and their OpenAPI document."""

    app: ASGIApp
    api: FastAPI
    context: Context
    spool: SpoolWriter
    controller: Controller

    @classmethod
    def create(
        cls, settings: Settings, *, clock: Clock = utc_now, runtime: RuntimeFactory = ClassifierRuntime
    ) -> Service:
        """Make all parts; nothing runs yet. Raises MisConfigured."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the pool's threads are all the parallelism there is
        replica = new_id()
        ledger = open_ledger(settings)
        registry = open_registry(settings, ledger)
        metrics = Metrics()
        spool = SpoolWriter(
            settings.spool_dir,
            writer=replica,
            segment_bytes=settings.log.spool_segment_bytes,
            max_bytes=settings.log.spool_max_bytes,
            fsync=settings.log.spool_fsync,
        )
        serving = Serving(
            ledger=ledger, registry=registry, settings=settings.server, replica=replica, runtime=runtime, clock=clock
        )
        inference = Inference(
            settings=settings.server,
            threads=settings.server.threads or usable_cores(),
            table=lambda: serving.table,
            recorder=Recorder(spool, text=settings.log.text, top_k=settings.server.top_k),
            metrics=metrics,
            clock=clock,
        )
        metrics.registry.register(
            StateCollector(
                table=lambda: serving.table,
                loaded=lambda: len(serving.loaded),
                depths=inference.pool.depths,
                capacity=settings.server.queue_size,
                spool=spool,
            )
        )
        context = Context(
            settings=settings,
            ledger=ledger,
            registry=registry,
            keyring=Keyring(ledger),
            inference=inference,
            serving=serving,
            metrics=metrics,
            clock=clock,
        )
        controller = Controller(ledger, settings, owner=replica, clock=clock)
        api = build_api(context)
        app = Edge(
            api,
            lean=lean_routes(api),
            max_body_bytes=settings.server.max_body_bytes,
            max_bodies_bytes=settings.server.max_bodies_bytes,
            metrics=metrics,
        )
        return cls(app, api, context, spool, controller)

    def start(self) -> None:
        """Load what should serve, then run."""
        self.context.inference.pool.start()
        self.context.serving.start()
        self.controller.start()

    def stop(self) -> None:
        """Stop deciding, answer what waits, leave. HTTP is to be stopped before."""
        with ExitStack() as steps:  # taken from the last to the first, each even if one before it fails
            steps.callback(self.context.ledger.close)
            steps.callback(self.spool.close)
            steps.callback(self.context.serving.stop)
            steps.callback(self.context.inference.pool.stop)
            steps.callback(self.controller.stop)


def build_api(context: Context) -> FastAPI:
    """All routes around `context`."""
    app = FastAPI(title="Leeway", version=program_version(), description=DESCRIPTION)
    app.state.context = context
    errors.install(app)
    for routes in (predict, oip, feedback, labels, health, operate, console):
        app.include_router(routes.router)
    for front in (oip.inference, console.front):
        app.include_router(front)
    _declare_security(app)
    return app


def _declare_security(app: FastAPI) -> None:
    """Add the two ways to present a key to the OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {})["securitySchemes"] = SECURITY_SCHEMES
        return document

    app.openapi = openapi  # type: ignore[method-assign]
