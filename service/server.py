"""HTTP on a port: uvicorn in a thread of its own, so that whoever starts it keeps its signals and its say."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from monitoring.core.cli import cannot_listen

BACKLOG = 2048


class HttpServer:
    """Serves an application until it is stopped; requests under way are answered first."""

    def __init__(self, app: ASGIApp, *, host: str, port: int, drain_seconds: float, on_end: Callable[[], None]) -> None:
        """Takes the port at once, and listens from `start` on; `on_end` is called when serving ends, asked for or not.

        Raises MisConfigured if the port is in use or not allowed.
        """
        self._host, self._asked = host, port
        self._socket = _bind(host, port)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=max(1, round(drain_seconds)),
        )
        self._server = uvicorn.Server(config)
        self._on_end = on_end
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port taken; of interest where 0 was asked for."""
        return int(self._socket.getsockname()[1])

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to accept; callers that come before the first loop turn wait in the backlog.

        Raises MisConfigured if another process, which had taken the port as well, listens by now.
        """
        try:
            self._socket.listen(BACKLOG)
        except OSError as error:
            raise cannot_listen("server", self._host, self._asked, error) from error
        self._thread.start()

    def stop(self) -> None:
        """Refuse new connections, answer what is under way, end."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._on_end()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise cannot_listen("server", host, port, error) from error
    return listener
