"""How console routes answer: errors as pages, strangers to the login, every answer with the headers that guard it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from monitoring.core.errors import LeewayError, NotAuthenticated
from service.console.pages import HEADERS, render
from service.console.session import HOME, LOGIN
from service.routes.errors import status_of


class PageRoute(APIRoute):
    """A route whose answer is for a person."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, made to fail readably."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                response = await answer(request)
            except NotAuthenticated:
                response = _to_login(request)
            except LeewayError as error:
                response = _error_page(status_of(error), error.message)
            except RequestValidationError:
                response = _error_page(422, "the form or the address has a value that cannot be used")
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handler


def _to_login(request: Request) -> Response:
    """To the login, and back afterwards.

    Browsers withhold the cookie from whoever follows a link out of a mail or chat. Such a visitor gets a page that
    reloads itself: the second request is our own, and carries it.
    """
    if request.method != "GET":
        return RedirectResponse(LOGIN, 303)
    if request.headers.get("sec-fetch-site") == "cross-site":
        return render("arrived.html", title="One moment")
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"{LOGIN}?next={quote(wanted)}" if wanted != HOME else LOGIN, 303)


def _error_page(status: int, message: str) -> Response:
    title = {403: "Not allowed", 404: "Not found", 409: "Not any more", 422: "That cannot be used"}
    return render("error.html", status=status, title=title.get(status, HTTPStatus(status).phrase), message=message)
