"""The outermost layer: refuses bodies that are too large before reading them whole, unpacks, and measures.

It also bounds what all bodies together hold: many callers who send much, slowly, would else fill memory before the
queue could refuse any of them.
"""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitoring.core.errors import InvalidInput, Overloaded, TooLarge
from service.decoding import decoded
from service.metrics import Metrics
from service.routes.errors import response_to, status_of

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    """ASGI middleware. Bodies are small, so each is read whole here, and handed on in one piece."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_bodies_bytes: int, metrics: Metrics) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_bodies_bytes = max(max_bodies_bytes, max_body_bytes)
        self._held = 0  # bytes of all bodies under way
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500  # what is answered further out when the application raises
        held = [0]

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            first = await self._whole_body(scope, receive, held)
            await self._app(scope, _after(first, receive), watched_send)
        except (InvalidInput, Overloaded) as error:
            status = status_of(error)
            response = response_to(error, scope["path"])
            response.headers["Connection"] = "close"  # the rest of the body is not going to be read
            await response(scope, receive, send)
        finally:
            self._held -= held[0]
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.request(_route_of(scope), method, status, time.perf_counter() - began)

    async def _whole_body(self, scope: Scope, receive: Receive, held: list[int]) -> Message:
        """The body as one message, or the news that the caller left. Raises InvalidInput or Overloaded.

        `held` counts what this request holds of the room for all bodies, for the caller to give back.
        """
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0")
        self._check(int(announced) if announced.isdecimal() else 0)
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            self._check(size)
            self._hold(len(chunks[-1]), held)
            more = message.get("more_body", False)
        encoding = headers.get("content-encoding", "")
        body = decoded(b"".join(chunks), encoding, limit=self._max_body_bytes) if encoding else b"".join(chunks)
        self._hold(max(len(body) - size, 0), held)
        return {"type": "http.request", "body": body, "more_body": False}

    def _hold(self, size: int, held: list[int]) -> None:
        if self._held + size > self._max_bodies_bytes:
            raise Overloaded("the requests under way fill the memory meant for them: try again in a second")
        self._held += size
        held[0] += size

    def _check(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise TooLarge(
                f"the body is larger than the limit of {self._max_body_bytes} bytes: send fewer texts at once"
            )


def _after(first: Message, receive: Receive) -> Receive:
    """`receive`, with `first` in front."""
    waiting = [first]

    async def receive_replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_replayed


def _route_of(scope: Scope) -> str:
    """The path's template, so that neither models nor strangers' paths multiply the metrics."""
    return str(getattr(scope.get("route"), "path", "unmatched"))
