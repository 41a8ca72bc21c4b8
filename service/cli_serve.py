"""`leeway serve`: the HTTP API, the inference engine, and the rollout controller, in one process."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

import click

from monitoring.core.settings import load_settings

log = logging.getLogger(__name__)


@click.command()
@click.option("--host", help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=int, help="Port to listen on; 0 for any free one.")
@click.option("--threads", type=int, help="Inference threads; 0 for as many as the cores this process may use.")
def serve(**options: Any) -> None:
    """Serve the models over HTTP until SIGTERM or Ctrl-C; requests under way are answered first."""
    from monitoring.core.cli import LISTENING
    from monitoring.core.errors import MisConfigured
    from monitoring.core.ledger import access
    from service.app import Service
    from service.logs import log_to_stderr
    from service.server import HttpServer

    log_to_stderr()
    given = {name: value for name, value in options.items() if value is not None}
    settings = load_settings(**({"server": given} if given else {}))
    stopping = _when_asked_to_stop()
    service = Service.create(settings)
    server = HttpServer(
        service.app,
        host=settings.server.host,
        port=settings.server.port,
        drain_seconds=settings.server.deadline_seconds,
        on_end=stopping.set,
    )
    with service.context.ledger.read() as connection:
        if not access.has_keys(connection):
            log.warning("there is no API key yet, so nobody can log in: run `leeway init`")
    service.start()
    try:
        server.start()
    except MisConfigured:
        service.stop()
        raise
    log.info(LISTENING + "http://%s:%d", settings.server.host, server.port)
    stopping.wait()
    failed = not server.alive
    log.info("stopping: new connections are refused, requests under way are answered")
    server.stop()
    service.stop()
    if failed:
        raise click.ClickException("the HTTP server ended by itself; its log says why")


def _when_asked_to_stop() -> threading.Event:
    """Set by the first SIGTERM or Ctrl-C; a second one ends the process at once."""
    stopping = threading.Event()

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stopping.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    return stopping
