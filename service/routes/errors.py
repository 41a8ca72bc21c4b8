"""What each error means over HTTP: the one place that knows both.

Every refusal has the shape `{"error": {"code", "message", "field"}}`; below `/v2` the Open Inference Protocol wants the
message itself at `error`, so code and field stand beside it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from monitoring.core import errors
from monitoring.core.errors import LeewayError
from service.inference import CallerGone

log = logging.getLogger(__name__)

STATUS: Mapping[type[LeewayError], int] = {
    errors.TooLarge: 413,
    errors.InvalidInput: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.Overloaded: 429,
    errors.NotReady: 503,
    errors.DeadlineExceeded: 504,
    CallerGone: 499,  # nobody will read it; the code that proxies log
    LeewayError: 500,
}
HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
RETRY_AFTER_SECONDS = 1


def install(app: FastAPI) -> None:
    """Answer every error of `app` in the one shape."""
    app.add_exception_handler(LeewayError, _leeway_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    for away in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(away, _ledger_error)
    app.add_exception_handler(Exception, _unexpected_error)


def status_of(error: LeewayError) -> int:
    """The HTTP status of an error: that of its nearest ancestor in STATUS."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def response_to(error: LeewayError, path: str) -> Response:
    """The answer that tells the caller about `error`."""
    headers = {}
    if isinstance(error, errors.Overloaded):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif isinstance(error, errors.NotReady):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    elif isinstance(error, errors.NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return _refusal(path, status_of(error), error.code, error.message, error.field, headers)


async def _leeway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LeewayError)
    return response_to(error, request.url.path)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "it cannot be read")
        return _refusal(request.url.path, 400, "invalid_json", f"the body is not valid JSON: {reason}", None)
    field = field_name(first["loc"])
    if field is None:  # the body as a whole
        message = "the body is missing or not a JSON object: send one with Content-Type: application/json"
        return _refusal(request.url.path, 422, errors.InvalidInput.code, message, None)
    return _refusal(request.url.path, 422, errors.InvalidInput.code, f"{field}: {first['msg']}", field)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404:
        message = f"there is nothing at {request.url.path}; /docs lists what there is"
    code = HTTP_CODES.get(error.status_code, "http_error")
    return _refusal(request.url.path, error.status_code, code, message, None, error.headers)


async def _ledger_error(request: Request, error: Exception) -> Response:
    log.error("the ledger failed during %s %s: %s", request.method, request.url.path, error)
    message = "the ledger cannot be reached just now; nothing was changed, try again"
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return _refusal(request.url.path, 503, "ledger_unavailable", message, None, headers)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    log.error("unexpected error in %s %s", request.method, request.url.path, exc_info=error)
    return _refusal(request.url.path, 500, "internal_error", "something broke here; the server's log says what", None)


def field_name(location: Sequence[int | str]) -> str | None:
    """A pydantic location as callers know it: ("body", "inputs", 3) is `inputs[3]`; None for the body itself.

    A part in parentheses is the tag of a union, which callers do not see.
    """
    name = ""
    for part in location[1:]:
        if isinstance(part, int):
            name += f"[{part}]"
        elif not part.startswith("("):
            name += f".{part}" if name else part
    return name or None


def _refusal(
    path: str, status: int, code: str, message: str, field: str | None, headers: Mapping[str, str] | None = None
) -> Response:
    body: dict[str, Any] = {"error": {"code": code, "message": message, "field": field}}
    if path.startswith("/v2"):
        body = {"error": message, "code": code, "field": field}
    return Response(orjson.dumps(body), status, dict(headers or {}), media_type="application/json")
