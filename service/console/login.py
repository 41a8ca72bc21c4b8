"""The way in and out of the console, and the two files that its pages load."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from monitoring.core.errors import NotAllowed, NotAuthenticated
from service.console import session as sessions
from service.console.pages import FOLDER, render
from service.console.route import PageRoute
from service.console.session import HOME, LOGIN, Sender
from service.context import Here
from service.routes.errors import status_of

router = APIRouter(route_class=PageRoute)
A_DAY = {"Cache-Control": "public, max-age=86400"}


@router.get("/login")
def ask(request: Request, next: str = HOME) -> Response:
    """Ask for an API key."""
    return _form(request, next)


@router.post("/login")
def log_in(
    request: Request,
    context: Here,
    key: Annotated[str, Form()] = "",
    token: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = HOME,
) -> Response:
    """Exchange the key for a session."""
    response = RedirectResponse(sessions.page_to_return_to(next), 303)
    try:
        sessions.log_in(context, request, response, key=key, token=token)
    except (NotAuthenticated, NotAllowed) as error:
        return _form(request, next, status=status_of(error), problem=error.message)
    return response


@router.post("/logout")
def log_out(request: Request, context: Here, sender: Sender) -> Response:
    """End the session."""
    response = RedirectResponse(LOGIN, 303)
    sessions.log_out(context, request, response)
    return response


@router.get("/style.css")
def style() -> Response:
    """Light and dark."""
    return FileResponse(FOLDER / "style.css", media_type="text/css", headers=A_DAY)


@router.get("/icon.svg")
def icon() -> Response:
    """For the browser's tab."""
    return FileResponse(FOLDER / "icon.svg", media_type="image/svg+xml", headers=A_DAY)


def _form(request: Request, wanted: str, *, status: int = 200, problem: str | None = None) -> Response:
    token = sessions.new_token()
    response = render(
        "login.html", status=status, token=token, next=sessions.page_to_return_to(wanted), problem=problem
    )
    sessions.remember_token(request, response, token)
    return response
