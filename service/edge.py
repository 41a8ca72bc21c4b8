"""The outermost layer: refuses too large bodies before reading them whole, unpacks, answers lean, and measures.

It also bounds what all bodies together hold: many callers who send much, slowly, would else fill memory before the
queue could refuse any of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import FastAPI, Request
from starlette.types import Message, Receive, Scope, Send

from monitoring.core.errors import InvalidInput, Overloaded, TooLarge
from service.decoding import decoded
from service.lean import LeanRoute
from service.metrics import Metrics
from service.routes.errors import respond

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    """The application as a server calls it. Bodies are small, so each is read whole here, and handed on in one piece.

    What `lean` routes can answer, they do; everything else goes to `api`.
    """

    def __init__(
        self, api: FastAPI, *, lean: Sequence[LeanRoute], max_body_bytes: int, max_bodies_bytes: int, metrics: Metrics
    ) -> None:
        self._api = api
        self._lean = lean
        self._max_body_bytes = max_body_bytes
        self._max_bodies_bytes = max(max_bodies_bytes, max_body_bytes)
        self._held = 0  # bytes of all bodies under way
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500  # what a server answers when the application raises
        held = [0]

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            first = await self._whole_body(scope, receive, held)
            if not await self._answered_lean(scope, receive, watched_send, first):
                await self._api(scope, _after(first, receive), watched_send)
        except (InvalidInput, Overloaded) as error:
            response = respond(error, scope["method"], scope["path"])
            response.headers["Connection"] = "close"  # the rest of the body is not going to be read
            await response(scope, receive, watched_send)
        finally:
            self._held -= held[0]
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.request(_route_of(scope), method, status, time.perf_counter() - began)

    async def _answered_lean(self, scope: Scope, receive: Receive, send: Send, first: Message) -> bool:
        """Whether a lean route has answered."""
        if scope["method"] != "POST" or first["type"] != "http.request":
            return False
        for route in self._lean:
            if (parameters := route.parameters_of(scope["path"])) is not None:
                scope["app"], scope["route"] = self._api, route
                response = await route.answer(Request(scope, receive), parameters, first["body"])
                await response(scope, receive, send)
                return True
        return False

    async def _whole_body(self, scope: Scope, receive: Receive, held: list[int]) -> Message:
        """The body as one message, or the news that the caller left. Raises InvalidInput or Overloaded.

        `held` counts what this request holds of the room for all bodies, for the caller to give back.
        """
        announced, encoding = _about_the_body(scope)
        self._check(announced)
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


def _about_the_body(scope: Scope) -> tuple[int, str]:
    """Its announced length in bytes, 0 if there is none, and its Content-Encoding."""
    length, encoding = 0, ""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"content-encoding":
            encoding = value.decode("latin-1")
    return length, encoding


def _after(first: Message, receive: Receive) -> Receive:
    """`receive`, with `first` in front."""
    waiting = [first]

    async def receive_replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_replayed


def _route_of(scope: Scope) -> str:
    """The path's template, so that neither models nor strangers' paths multiply the metrics."""
    return str(getattr(scope.get("route"), "path", "unmatched"))
