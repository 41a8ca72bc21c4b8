"""Routes in the way of every prediction: what FastAPI works out for each request is worked out once, at the start.

A lean route is declared like any other, and the OpenAPI document shows it so; but it is answered in front of FastAPI,
whose own way to an endpoint costs more than all else that HTTP takes.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from service.routes.errors import UNREADABLE, respond

TIMEOUT = "X-Request-Timeout"


class LeanRoute(APIRoute):
    """A POST whose endpoint takes `request`, the path's parameters as text, and `body`, `caller` and `within`."""

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Response]], **declared: Any) -> None:
        super().__init__(path, endpoint, **declared)
        hints = get_type_hints(endpoint, include_extras=True)
        self._body, self._within = TypeAdapter(hints["body"]), TypeAdapter(hints["within"])
        (caller,) = (dependency.call for dependency in self.dependant.dependencies)
        assert caller is not None
        self._caller = caller

    def parameters_of(self, path: str) -> dict[str, str] | None:
        """What the path names, or None if it leads elsewhere."""
        found = self.path_regex.match(path)
        return None if found is None else found.groupdict()

    async def answer(self, request: Request, parameters: dict[str, str], body: bytes) -> Response:
        """The endpoint's answer, or the one that tells why there is none; never raises."""
        try:
            caller = await self._caller(request)
            within = read(self._within, request.headers.get(TIMEOUT), "header", TIMEOUT)
            content = self.content_of(request, body)
            response: Response = await self.endpoint(request, **parameters, body=content, caller=caller, within=within)
            return response
        except Exception as error:
            return respond(error, request.method, request.url.path)

    def content_of(self, request: Request, body: bytes) -> Any:
        """What the endpoint gets as its `body`. Raises RequestValidationError, HTTPException or LeewayError."""
        return read(self._body, _json(body), "body")


def read(shape: TypeAdapter[Any], value: object, *place: str) -> Any:
    """`value` as `shape`. Raises RequestValidationError, which says where below `place` the fault is."""
    try:
        return shape.validate_python(value)
    except ValidationError as error:
        faults = [{**fault, "loc": (*place, *fault["loc"])} for fault in error.errors(include_url=False)]
        raise RequestValidationError(faults) from error


def lean_routes(api: FastAPI) -> list[LeanRoute]:
    """Those of its routes that are lean."""
    routes = (context.original_route for context in iter_route_contexts(api.routes))
    return [route for route in routes if isinstance(route, LeanRoute)]


def _json(body: bytes) -> object:
    """The body, None if there is none. Raises RequestValidationError or HTTPException, as FastAPI does."""
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return _what_json_says(body)


def _what_json_says(body: bytes) -> object:
    """Where the fault lies, better told than by the faster parser; half a character is left to who knows its field."""
    try:
        return json.loads(body.decode())
    except json.JSONDecodeError as error:
        fault = {"type": "json_invalid", "loc": ("body", error.pos), "msg": error.msg, "ctx": {"error": error.msg}}
        raise RequestValidationError([fault]) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, UNREADABLE) from error
