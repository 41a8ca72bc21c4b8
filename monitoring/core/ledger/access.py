"""API keys and console sessions. Only hashes are kept: a secret is shown once, when it is made."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from monitoring.core.errors import Conflict, NotAuthenticated, NotFound
from monitoring.core.ids import new_id
from monitoring.core.ledger import audit
from monitoring.core.tables import keys, sessions
from monitoring.core.types import Principal, Role

PREFIX = "lw_"


@dataclass(frozen=True)
class Key:
    """An API key as it may be listed: everything but its secret."""

    name: str
    roles: frozenset[Role]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Session:
    """A console login: who, and the token that every form of the page must carry."""

    principal: Principal
    csrf: str


def add_key(connection: Connection, *, name: str, roles: Iterable[Role], actor: str, now: datetime) -> str:
    """Make a key for a person or service; its secret. Raises Conflict if the name is taken."""
    secret = PREFIX + secrets.token_urlsafe(32)
    granted = sorted(set(roles))
    try:
        with connection.begin_nested():
            connection.execute(
                insert(keys).values(id=new_id(), name=name, roles=granted, hash=_hash(secret), created_at=now)
            )
    except IntegrityError as error:
        raise Conflict(f"a key named {name!r} exists or existed: choose another name", field="name") from error
    audit.record(
        connection,
        at=now,
        actor=actor,
        action="key:add",
        subject=name,
        reason="a key was made",
        detail={"roles": granted},
    )
    return secret


def revoke_key(connection: Connection, name: str, *, actor: str, reason: str, now: datetime) -> None:
    """End a key and its sessions. Raises NotFound."""
    row = connection.execute(select(keys.c.id).where(keys.c.name == name, keys.c.revoked_at.is_(None))).first()
    if row is None:
        raise NotFound(f"no key is named {name!r}", field="name")
    connection.execute(update(keys).where(keys.c.id == row.id).values(revoked_at=now))
    connection.execute(delete(sessions).where(sessions.c.key == row.id))
    audit.record(connection, at=now, actor=actor, action="key:revoke", subject=name, reason=reason)


def has_keys(connection: Connection) -> bool:
    """Whether `leeway init` has made the first key."""
    return connection.execute(select(keys.c.id).limit(1)).first() is not None


def find_keys(connection: Connection) -> list[Key]:
    """All keys, oldest first, revoked ones included."""
    query = select(keys).order_by(keys.c.created_at, keys.c.name)
    return [
        Key(row.name, frozenset(map(Role, row.roles)), row.created_at, row.revoked_at)
        for row in connection.execute(query)
    ]


def authenticate(connection: Connection, secret: str) -> Principal:
    """Who holds this key. Raises NotAuthenticated.

    The secret has 256 random bits, so one fast hash and an indexed look-up give nothing away.
    """
    query = select(keys.c.name, keys.c.roles).where(keys.c.hash == _hash(secret), keys.c.revoked_at.is_(None))
    row = connection.execute(query).first()
    if row is None:
        raise NotAuthenticated("the API key is not known here, or was revoked")
    return Principal(row.name, frozenset(map(Role, row.roles)))


def open_session(connection: Connection, key: str, *, lasts: timedelta, now: datetime) -> str:
    """Log in to the console with a key; the cookie's token."""
    authenticate(connection, key)
    key_id = connection.execute(select(keys.c.id).where(keys.c.hash == _hash(key))).scalar_one()
    token = secrets.token_urlsafe(32)
    connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
    connection.execute(
        insert(sessions).values(hash=_hash(token), key=key_id, csrf=secrets.token_urlsafe(32), expires_at=now + lasts)
    )
    return token


def session(connection: Connection, token: str, *, now: datetime) -> Session:
    """The login behind a cookie. Raises NotAuthenticated."""
    query = (
        select(keys.c.name, keys.c.roles, sessions.c.csrf)
        .join(keys, keys.c.id == sessions.c.key)
        .where(sessions.c.hash == _hash(token), sessions.c.expires_at > now, keys.c.revoked_at.is_(None))
    )
    row = connection.execute(query).first()
    if row is None:
        raise NotAuthenticated("the session has ended: log in again")
    return Session(Principal(row.name, frozenset(map(Role, row.roles))), row.csrf)


def close_session(connection: Connection, token: str) -> None:
    """Log out."""
    connection.execute(delete(sessions).where(sessions.c.hash == _hash(token)))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
