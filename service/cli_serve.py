"""`leeway serve`: the HTTP API, the inference engine, and the rollout controller, in one process."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from monitoring.core.settings import load_settings

if TYPE_CHECKING:
    from monitoring.core.settings import ServerSettings
    from service.context import Context

log = logging.getLogger(__name__)


@click.command()
@click.option("--host", help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=int, help="Port to listen on; 0 for any free one.")
@click.option(
    "--grpc-port", type=int, help="Answer the Open Inference Protocol over gRPC there, too; 0 for any free one."
)
@click.option("--threads", type=int, help="Inference threads; 0 for as many as the cores this process may use.")
def serve(**options: Any) -> None:
    """Serve the models over HTTP until SIGTERM or Ctrl-C; requests under way are answered first."""
    from monitoring.core.cli import LISTENING
    from monitoring.core.cores import one_algebra_thread
    from monitoring.core.ledger import access
    from service.app import Service
    from service.logs import log_to_stderr
    from service.server import HttpServer

    log_to_stderr()
    given = {name: value for name, value in options.items() if value is not None}
    settings = load_settings(**({"server": given} if given else {}))
    stopping = _when_asked_to_stop()
    service = Service.create(settings)
    one_algebra_thread()
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
    with ExitStack() as running:  # left from the last to the first
        running.callback(service.stop)
        service.start()
        if settings.server.grpc_port is not None:
            start_rpc(service.context, settings.server, running)
        server.start()
        running.callback(server.stop)
        log.info(LISTENING + "http://%s:%d", settings.server.host, server.port)
        stopping.wait()
        failed = not server.alive
        log.info("stopping: new connections are refused, requests under way are answered")
    if failed:
        raise click.ClickException("the HTTP server ended by itself; its log says why")


def start_rpc(context: Context, settings: ServerSettings, running: ExitStack) -> None:
    """Answer gRPC as well, until `running` ends. Raises MisConfigured where the extra is missing or the port taken."""
    try:
        from service.oip.rpc import RpcServer
    except ModuleNotFoundError as error:
        from monitoring.core.errors import MisConfigured

        raise MisConfigured(
            "server.grpc_port needs the extra grpc: pip install 'leeway[grpc]', or leave the setting out",
            field="server.grpc_port",
        ) from error
    rpc = RpcServer(context, host=settings.host, port=settings.grpc_port or 0, drain_seconds=settings.deadline_seconds)
    rpc.start()
    running.callback(rpc.stop)
    log.info("answering gRPC on %s:%d", settings.host, rpc.port)


def _when_asked_to_stop() -> threading.Event:
    """Set by the first SIGTERM or Ctrl-C; a second one ends the process at once."""
    stopping = threading.Event()

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stopping.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    return stopping
