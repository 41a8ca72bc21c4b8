"""Logging in to the console: an API key buys a session cookie; every form carries a token that proves it is ours.

The cookie is HttpOnly and SameSite=Strict, so scripts cannot read it and other sites cannot use it. The login form,
before there is a session, is guarded by a token that must come back both in the form and in a cookie of its own.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Form, Request, Response

from monitoring.core.errors import NotAllowed
from monitoring.core.ledger import access
from monitoring.core.ledger.access import Session
from monitoring.core.types import Role
from service.auth import check_role
from service.context import Context, Here
from service.operation import Operator

HOME = "/console"
LOGIN = f"{HOME}/login"
SESSION_COOKIE = "leeway_session"
LOGIN_COOKIE = "leeway_login"
LOGIN_SECONDS = 3600
VISITORS = (Role.OPERATE, Role.APPROVE)
STALE_FORM = "this form has gone stale, and nothing was changed: load the page again and repeat what you did"


def visitor(request: Request, context: Here) -> Session:
    """Who looks at the page. Raises NotAuthenticated or NotAllowed."""
    with context.ledger.read() as connection:
        session = access.session(connection, request.cookies.get(SESSION_COOKIE, ""), now=context.clock())
    check_role(session.principal, *VISITORS)
    return session


Visitor = Annotated[Session, Depends(visitor)]


def sender(session: Visitor, csrf: Annotated[str, Form()] = "") -> Session:
    """Who sent a form of ours. Raises NotAuthenticated, or NotAllowed if the form is not one that we gave them."""
    if not hmac.compare_digest(csrf.encode(), session.csrf.encode()):
        raise NotAllowed(STALE_FORM)
    return session


Sender = Annotated[Session, Depends(sender)]


def operator(context: Here, session: Sender) -> Operator:
    """Acts in the name of whoever sent the form."""
    return Operator(session.principal, context.ledger, context.settings.rollout, context.clock)


Acting = Annotated[Operator, Depends(operator)]


def log_in(context: Context, request: Request, response: Response, *, key: str, token: str) -> None:
    """Open a session. Raises NotAuthenticated for an unknown key, NotAllowed without role or from another's form."""
    if not token or not hmac.compare_digest(token.encode(), request.cookies.get(LOGIN_COOKIE, "").encode()):
        raise NotAllowed(STALE_FORM)
    lasts = timedelta(hours=context.settings.server.session_hours)
    with context.ledger.begin() as connection:
        check_role(access.authenticate(connection, key.strip()), *VISITORS)
        opened = access.open_session(connection, key.strip(), lasts=lasts, now=context.clock())
    response.delete_cookie(LOGIN_COOKIE, path=LOGIN)
    _set_cookie(request, response, SESSION_COOKIE, opened, path=HOME, seconds=int(lasts.total_seconds()))


def log_out(context: Context, request: Request, response: Response) -> None:
    """Close the session, here and in the ledger."""
    with context.ledger.begin() as connection:
        access.close_session(connection, request.cookies.get(SESSION_COOKIE, ""))
    response.delete_cookie(SESSION_COOKIE, path=HOME)


def new_token() -> str:
    """A login form's token."""
    return secrets.token_urlsafe(32)


def remember_token(request: Request, response: Response, token: str) -> None:
    """Set the login form's token as a cookie, too."""
    _set_cookie(request, response, LOGIN_COOKIE, token, path=LOGIN, seconds=LOGIN_SECONDS)


def page_to_return_to(wanted: str) -> str:
    """A page of the console; its front page if `wanted` leads anywhere else."""
    inside = wanted == HOME or wanted.startswith(f"{HOME}/")
    return wanted if inside and not any(sign in wanted for sign in ("\\", "//", "\r", "\n")) else HOME


def _set_cookie(request: Request, response: Response, name: str, value: str, *, path: str, seconds: int) -> None:
    encrypted = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    response.set_cookie(name, value, max_age=seconds, path=path, httponly=True, samesite="strict", secure=encrypted)
