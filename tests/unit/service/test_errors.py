"""Every error has its HTTP status, and its field is named as the caller wrote it."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from fastapi import FastAPI

from monitoring.core import errors
from monitoring.core.errors import LeewayError
from service.inference import CallerGone
from service.routes.errors import field_name, install, respond, status_of


def _all(kind: type[LeewayError]) -> list[type[LeewayError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _all(child))]


@pytest.mark.parametrize("kind", _all(LeewayError), ids=lambda kind: kind.__name__)
def test_every_error_becomes_a_response_in_the_one_shape(kind: type[LeewayError]) -> None:
    response = respond(kind("what is wrong"), "POST", "/v1/feedback")
    assert 400 <= response.status_code < 600
    body = json.loads(bytes(response.body))
    assert body == {"error": {"code": kind.code, "message": "what is wrong", "field": None}}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidInput("x"), 422),
        (errors.TooLarge("x"), 413),
        (errors.BrokenBundle("x"), 422),
        (errors.Conflict("x"), 409),
        (errors.Overloaded("x"), 429),
        (errors.NotReady("x"), 503),
        (errors.DeadlineExceeded("x"), 504),
        (errors.MisConfigured("x"), 500),
        (CallerGone("x"), 499),
    ],
)
def test_the_nearest_ancestor_decides_the_status(error: LeewayError, status: int) -> None:
    assert status_of(error) == status


def test_the_inference_protocol_gets_its_own_shape() -> None:
    response = respond(errors.TooLarge("too much", field="inputs"), "POST", "/v2/models/support/infer")
    assert json.loads(bytes(response.body)) == {"error": "too much", "code": "too_large", "field": "inputs"}


def test_callers_learn_when_to_come_back_and_how_to_log_in() -> None:
    assert respond(errors.Overloaded("x", retry_after=1.2), "POST", "/").headers["retry-after"] == "2"
    assert respond(errors.NotReady("x"), "POST", "/").headers["retry-after"] == "1"
    assert respond(errors.DeadlineExceeded("x"), "POST", "/").headers["retry-after"] == "1"
    assert respond(errors.NotAuthenticated("x"), "POST", "/").headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("location", "name"),
    [
        (("body", "inputs", 3), "inputs[3]"),
        (("body", "(batch)", "items", 2, "label"), "items[2].label"),
        (("query", "limit"), "limit"),
        (("body",), None),
        (("body", "(one)"), None),
    ],
)
def test_fields_are_named_as_the_caller_wrote_them(location: tuple[int | str, ...], name: str | None) -> None:
    assert field_name(location) == name


def test_an_unexpected_error_is_logged_with_its_trace_and_shown_without(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    install(app)

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("a secret detail")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/broken")

    response = asyncio.run(ask())
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret" not in response.text
    assert "ZeroDivisionError: a secret detail" in caplog.text
