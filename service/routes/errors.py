"""What each error means over HTTP: the one place that knows both.

Every refusal has the shape `{"error": {"code", "message", "field"}}`; below `/v2` the Open Inference Protocol wants the
message itself at `error`, so code and field stand beside it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from monitoring.core import errors
from monitoring.core.errors import LeewayError
from monitoring.core.faults import one_line, tell
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
AWAY = (OperationalError, InterfaceError, PoolTimeout)
"""What a ledger raises that cannot be reached."""
HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
UNREADABLE = "There was an error parsing the body"
"""What FastAPI says of a body that is not UTF-8, or nested too deep."""
NO_OBJECT = frozenset({"missing", "model_type", "model_attributes_type"})
RETRY_AFTER_SECONDS = 1
MOST_TOLD = 3


def install(app: FastAPI) -> None:
    """Answer every error of `app` in the one shape."""
    for kind in (LeewayError, RequestValidationError, HTTPException, *AWAY, Exception):
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    return respond(error, request.method, request.url.path)


@dataclass(frozen=True)
class Refusal:
    """What a caller is told of an error, however it is told."""

    status: int
    code: str
    message: str
    field: str | None = None
    headers: Mapping[str, str] | None = None

    def response(self, path: str) -> Response:
        """As HTTP tells it below `path`."""
        message, about = one_line(self.message), None if self.field is None else one_line(self.field)
        body: dict[str, Any] = {"error": {"code": self.code, "message": message, "field": about}}
        if path.startswith("/v2"):
            body = {"error": message, "code": self.code, "field": about}
        return Response(orjson.dumps(body), self.status, dict(self.headers or {}), media_type="application/json")


def respond(error: Exception, method: str, path: str) -> Response:
    """The answer that tells the caller about any `error`; the log gets what callers could not help."""
    return refusal_of(error, method, path).response(path)


def refusal_of(error: Exception, method: str, path: str) -> Refusal:
    """What to tell the caller about any `error`; the log gets what callers could not help."""
    if isinstance(error, LeewayError):
        return _leeway_error(error)
    if isinstance(error, RequestValidationError):
        return _validation_error(error)
    if isinstance(error, HTTPException):
        return _http_error(error, method, path)
    if isinstance(error, AWAY):
        log.error("the ledger failed during %s %s: %s", method, path, error)
        message = "the ledger cannot be reached just now; nothing was changed, try again"
        return Refusal(503, "ledger_unavailable", message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    log.error("unexpected error in %s %s", method, path, exc_info=error)
    return Refusal(500, "internal_error", "something broke here; the server's log says what")


def status_of(error: LeewayError) -> int:
    """The HTTP status of an error: that of its nearest ancestor in STATUS."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _leeway_error(error: LeewayError) -> Refusal:
    headers = {}
    if isinstance(error, errors.Overloaded):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    elif isinstance(error, errors.NotReady | errors.DeadlineExceeded):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    elif isinstance(error, errors.NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return Refusal(status_of(error), error.code, error.message, error.field, headers)


def _validation_error(error: RequestValidationError) -> Refusal:
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        reason = str(found[0].get("ctx", {}).get("error", "it cannot be read"))
        message = (
            f"the body is not valid JSON at character {found[0]['loc'][-1]} ({reason[:1].lower()}{reason[1:]}): "
            "check its quotes, commas and brackets"
        )
        return Refusal(400, "invalid_json", message)
    names = [field_name(fault["loc"]) for fault in found]
    if found[0]["type"] in NO_OBJECT and names[0] is None:  # the body as a whole
        message = "the body is missing or not a JSON object: send one with Content-Type: application/json"
        return Refusal(422, errors.InvalidInput.code, message)
    told = [tell(name or "the body", fault) for name, fault in zip(names, found, strict=True)]
    message = "; ".join(told[:MOST_TOLD]) + (f"; and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else "")
    return Refusal(422, errors.InvalidInput.code, message, names[0])


def _http_error(error: HTTPException, method: str, path: str) -> Refusal:
    message = str(error.detail)
    if error.status_code == 404:
        message = f"there is nothing at {path}; /docs lists what there is"
    elif error.status_code == 405:
        message = f"{method} is not possible at {path}; /docs lists what is"
    elif message == UNREADABLE:
        message = "the body cannot be read: send JSON in UTF-8"
    code = HTTP_CODES.get(error.status_code, "http_error")
    return Refusal(error.status_code, code, message, headers=error.headers)


def field_name(location: Sequence[int | str]) -> str | None:
    """A pydantic location as callers know it: ("body", "inputs", 3) is `inputs[3]`; None for the body itself.

    A part in parentheses is the tag of a union, and `[key]` the name of an entry: callers see neither.
    """
    name = ""
    for part in location[1:]:
        if isinstance(part, int):
            name += f"[{part}]"
        elif part != "[key]" and not part.startswith("("):
            name += f".{part}" if name else part
    return name or None
