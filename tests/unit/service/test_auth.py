"""The keyring asks the ledger rarely, forgets revoked keys soon, and outlives a ledger that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from monitoring.core.errors import NotAllowed, NotAuthenticated
from monitoring.core.ledger import access
from monitoring.core.ledger.database import Ledger
from monitoring.core.types import Principal, Role, utc_now
from service.auth import KEPT, Keyring, check_role


class Rig:
    """A keyring with a clock that the test moves, and a count of the ledger's transactions."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ledger.db"
        self.ledger = Ledger.open(f"sqlite:///{self.file}")
        self.ledger.upgrade()
        self.now = 0.0
        self.asked = 0
        self.keyring = Keyring(self.ledger, fresh_seconds=3.0, monotonic=lambda: self.now)
        with self.ledger.begin() as connection:
            self.key = access.add_key(connection, name="app", roles=[Role.PREDICT], actor="test", now=utc_now())
        event.listen(self.ledger._engine, "begin", self._count)

    def principal(self, secret: str) -> Principal:
        return asyncio.run(self.keyring.principal(secret))

    def revoke(self) -> None:
        with self.ledger.begin() as connection:
            access.revoke_key(connection, "app", actor="test", reason="test", now=utc_now())

    def _count(self, _: object) -> None:
        self.asked += 1


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.ledger.close()


def test_a_known_key_is_looked_up_once_in_a_while(rig: Rig) -> None:
    for rig.now in (0.0, 1.0, 2.9):
        assert rig.principal(rig.key) == Principal("app", frozenset({Role.PREDICT}))
    assert rig.asked == 1
    rig.now = 3.1
    rig.principal(rig.key)
    assert rig.asked == 2


def test_a_revoked_key_is_refused_when_its_time_is_up(rig: Rig) -> None:
    rig.principal(rig.key)
    rig.revoke()
    rig.now = 3.1
    with pytest.raises(NotAuthenticated):
        rig.principal(rig.key)


def test_a_key_made_later_is_recognised_soon(rig: Rig) -> None:
    with pytest.raises(NotAuthenticated):
        rig.principal("lw_unknown")
    with pytest.raises(NotAuthenticated):
        rig.principal("lw_unknown")
    assert rig.asked == 1


def test_many_wrong_keys_take_no_memory(rig: Rig) -> None:
    async def try_many() -> None:
        for number in range(KEPT + 10):
            with pytest.raises(NotAuthenticated):
                await rig.keyring.principal(f"wrong-{number}")

    asyncio.run(try_many())
    assert len(rig.keyring._known) == KEPT


def test_a_known_key_stays_valid_while_the_ledger_is_away(rig: Rig) -> None:
    rig.principal(rig.key)
    rig.ledger.close()
    rig.file.unlink()
    rig.file.mkdir()
    rig.now = 60.0
    assert rig.principal(rig.key).name == "app"
    with pytest.raises(SQLAlchemyError):
        rig.principal("never seen")
    rig.file.rmdir()


def test_a_role_that_is_missing_is_named() -> None:
    caller = Principal("app", frozenset({Role.PREDICT}))
    check_role(caller, Role.PREDICT, Role.OPERATE)
    with pytest.raises(NotAllowed, match="lacks the role operate or approve"):
        check_role(caller, Role.OPERATE, Role.APPROVE)
