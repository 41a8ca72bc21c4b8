"""Who is calling: API keys, looked up in the ledger at most once in a few seconds each.

A route names the roles that may use it, any one of which will do; it is checked before the body is:

    async def give_feedback(caller: Annotated[Principal, Depends(require(Role.FEEDBACK))], body: ...) -> ...:
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError

from monitoring.core.errors import NotAllowed, NotAuthenticated
from monitoring.core.ledger import access
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import Principal, Role
from service.context import context_of

FRESH_SECONDS = 3.0
KEPT = 1024
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"api_key": []}]
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


@dataclass
class _Known:
    """What the ledger said about one key: its holder, or None for a key that it does not know."""

    principal: Principal | None
    fresh_until: float


class Keyring:
    """Recognises keys. A revoked key is refused within `fresh_seconds`.

    While the ledger cannot be reached, nobody can revoke a key there either: known ones stay valid.
    """

    def __init__(
        self, ledger: Ledger, *, fresh_seconds: float = FRESH_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._fresh_seconds = fresh_seconds
        self._monotonic = monotonic
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def principal(self, secret: str) -> Principal:
        """Who holds this key. Raises NotAuthenticated."""
        digest = hashlib.sha256(secret.encode()).digest()
        known = self._known.get(digest)
        if known is None:
            known = self._remember(digest, await asyncio.to_thread(self._look_up, secret))
        elif known.fresh_until < self._monotonic():
            known.fresh_until = self._monotonic() + self._fresh_seconds  # the others need not ask, too
            try:
                known.principal = await asyncio.to_thread(self._look_up, secret)
            except SQLAlchemyError:
                if known.principal is None:
                    raise
        if known.principal is None:
            raise NotAuthenticated("the API key is not known here, or was revoked")
        return known.principal

    def _look_up(self, secret: str) -> Principal | None:
        try:
            with self._ledger.read() as connection:
                return access.authenticate(connection, secret)
        except NotAuthenticated:
            return None

    def _remember(self, digest: bytes, principal: Principal | None) -> _Known:
        known = self._known[digest] = _Known(principal, self._monotonic() + self._fresh_seconds)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return known


def key_in(headers: Mapping[str, str]) -> str:
    """The key in `Authorization: Bearer` or `X-API-Key`; names are in lower case. Raises NotAuthenticated."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    key = headers.get("x-api-key", "").strip()
    if not key:
        raise NotAuthenticated("no API key: send the header `Authorization: Bearer KEY` or `X-API-Key: KEY`")
    return key


def require(*roles: Role) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that gives the caller, or raises NotAuthenticated or NotAllowed."""

    async def caller(request: Request) -> Principal:
        principal = await context_of(request).keyring.principal(key_in(request.headers))
        check_role(principal, *roles)
        return principal

    return caller


def check_role(caller: Principal, *roles: Role) -> None:
    """Raise NotAllowed unless the caller has one of the roles."""
    if caller.roles.isdisjoint(roles):
        needed = " or ".join(roles)
        raise NotAllowed(f"the key {caller.name!r} lacks the role {needed}: ask for a key that has it")
