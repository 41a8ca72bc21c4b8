"""Keys and sessions: only hashes are kept, a revoked key ends everything that was opened with it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Connection

from monitoring.core.errors import Conflict, NotAuthenticated, NotFound
from monitoring.core.ledger import access, audit
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import Principal, Role
from tests.contract.people import NOON
from tests.contract.test_database import everything

HOUR = timedelta(hours=1)


def add(connection: Connection, name: str = "ada", *roles: Role) -> str:
    return access.add_key(connection, name=name, roles=roles or [Role.APPROVE], actor="init", now=NOON)


def revoke(connection: Connection, name: str = "ada") -> None:
    access.revoke_key(connection, name, actor="bob", reason="ada left", now=NOON + HOUR)


def test_a_key_says_who_and_with_which_roles(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        assert not access.has_keys(connection)
        secret = add(connection, "ada", Role.APPROVE, Role.OPERATE, Role.APPROVE)
        other = add(connection, "shop", Role.PREDICT)
        assert access.has_keys(connection)
        assert access.authenticate(connection, secret) == Principal("ada", frozenset({Role.APPROVE, Role.OPERATE}))
        assert access.authenticate(connection, other) == Principal("shop", frozenset({Role.PREDICT}))
        assert [key.name for key in access.find_keys(connection)] == ["ada", "shop"]


@pytest.mark.parametrize("secret", ["", "lw_", "lw_wrong", "é", "' OR 1=1 --"])
def test_an_unknown_key_is_nobody(ledger: Ledger, secret: str) -> None:
    with ledger.begin() as connection:
        add(connection)
        with pytest.raises(NotAuthenticated):
            access.authenticate(connection, secret)
        with pytest.raises(NotAuthenticated):
            access.open_session(connection, secret, lasts=HOUR, now=NOON)


def test_no_secret_is_kept(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        secret = add(connection)
        token = access.open_session(connection, secret, lasts=HOUR, now=NOON)
    kept = repr(everything(ledger))
    assert secret not in kept
    assert token not in kept


def test_a_name_is_given_once_even_after_its_key_was_revoked(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        add(connection)
        for _ in range(2):
            with pytest.raises(Conflict, match="choose another name"):
                add(connection)
        revoke(connection)
        with pytest.raises(Conflict, match="choose another name"):
            add(connection)
        assert len(access.find_keys(connection)) == 1


def test_a_revoked_key_and_its_sessions_end_and_no_others(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        secret, other = add(connection), add(connection, "bob")
        token = access.open_session(connection, secret, lasts=8 * HOUR, now=NOON)
        others = access.open_session(connection, other, lasts=8 * HOUR, now=NOON)
        revoke(connection)
        with pytest.raises(NotAuthenticated):
            access.authenticate(connection, secret)
        with pytest.raises(NotAuthenticated):
            access.session(connection, token, now=NOON)
        assert access.session(connection, others, now=NOON).principal.name == "bob"
        assert access.find_keys(connection)[0].revoked_at == NOON + HOUR
        with pytest.raises(NotFound):
            revoke(connection)


def test_a_session_ends_by_itself_or_by_its_user(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        secret = add(connection)
        token = access.open_session(connection, secret, lasts=HOUR, now=NOON)
        second = access.open_session(connection, secret, lasts=HOUR, now=NOON)
        one = access.session(connection, token, now=NOON + HOUR - timedelta(microseconds=1))
        other = access.session(connection, second, now=NOON)
        assert one.principal == Principal("ada", frozenset({Role.APPROVE}))
        assert one.csrf != other.csrf
        with pytest.raises(NotAuthenticated, match="log in again"):
            access.session(connection, token, now=NOON + HOUR)
        access.close_session(connection, second)
        with pytest.raises(NotAuthenticated):
            access.session(connection, second, now=NOON)


def test_keys_leave_their_trace(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        add(connection)
        revoke(connection)
        revoked, made = audit.events(connection, subject="ada")
    assert (made.action, made.actor, made.detail) == ("key:add", "init", {"roles": ["approve"]})
    assert (revoked.action, revoked.actor, revoked.reason) == ("key:revoke", "bob", "ada left")
