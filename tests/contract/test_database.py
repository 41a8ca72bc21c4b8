"""What both databases promise: migrations from several roles at once, all or nothing, one snapshot per reader."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select
from sqlalchemy.exc import StatementError

from monitoring.core import tables
from monitoring.core.errors import MisConfigured
from monitoring.core.ledger import leases, verdicts
from monitoring.core.ledger.database import Ledger, insert_ignore, upsert
from tests.contract.people import NOON, candidate, champion
from tests.contract.race import race


def test_the_migrations_make_the_tables_of_the_code(ledger: Ledger) -> None:
    with ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_several_roles_may_upgrade_at_once(empty_database_url: str) -> None:
    def start(_: int) -> None:
        with closing(Ledger.open(empty_database_url)) as ledger:
            ledger.upgrade()

    assert race(start, 4) == [None] * 4
    with closing(Ledger.open(empty_database_url)) as ledger, ledger.begin() as connection:
        champion(connection)


def test_an_exception_in_the_middle_leaves_nothing(ledger: Ledger) -> None:
    def die_half_way() -> None:
        with ledger.begin() as connection:
            champion(connection)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die_half_way()
    assert everything(ledger) == {}


def test_a_reader_sees_one_snapshot_while_others_write(ledger: Ledger) -> None:
    with ledger.read() as reading:
        before = reading.execute(select(tables.versions)).all()
        with ledger.begin() as writing:
            candidate(writing)
        assert reading.execute(select(tables.versions)).all() == before == []
    with ledger.read() as reading:
        assert len(reading.execute(select(tables.versions)).all()) == 1


def test_times_come_back_aware_and_in_utc(ledger: Ledger) -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2026, 1, 5, 17, 30, 0, 123456, tzinfo=east)
    with ledger.begin() as connection:
        leases.acquire(connection, "one", owner="me", lasts=timedelta(0), now=moment)
        [found] = connection.execute(select(tables.leases.c.expires_at)).scalars()
    assert found == moment
    assert found.tzinfo is UTC


def test_a_naive_time_is_refused(ledger: Ledger) -> None:
    with ledger.begin() as connection, pytest.raises(StatementError, match="naive datetime"):
        leases.acquire(connection, "one", owner="me", lasts=timedelta(0), now=NOON.replace(tzinfo=None))


def test_a_row_that_is_there_is_left_out_and_the_transaction_goes_on(ledger: Ledger) -> None:
    rows = [{"name": name, "fence": 0} for name in ("one", "two")]
    with ledger.begin() as connection:
        assert insert_ignore(connection, tables.models, rows[:1]) == 1
        assert insert_ignore(connection, tables.models, [*rows, rows[0]]) == 1
        assert insert_ignore(connection, tables.models, []) == 0
        assert list(connection.execute(select(tables.models.c.name)).scalars()) == ["one", "two"]


def test_an_upsert_inserts_then_updates(ledger: Ledger) -> None:
    with ledger.begin() as connection:
        upsert(connection, tables.cursors, {"name": "one"}, {"position": {"commit": 1}})
        upsert(connection, tables.cursors, {"name": "one"}, {"position": {"commit": 2}})
        assert verdicts.load_cursor(connection, "one") == {"commit": 2}
        assert verdicts.load_cursor(connection, "another") == {}


def test_foreign_keys_are_checked(ledger: Ledger) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"), ledger.begin() as connection:
        connection.execute(insert(tables.sessions).values(hash="h", key="nobody's", csrf="c", expires_at=NOON))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ledger.db", "is not a database URL"),
        ("oracle9://host/x", "only sqlite and postgresql"),
        ("postgresql+asyncpg://host/x", r"pip install 'leeway\[postgres\]'"),
    ],
)
def test_a_url_that_cannot_be_used_is_told(url: str, told: str) -> None:
    with pytest.raises(MisConfigured, match=told) as caught:
        Ledger.open(url)
    assert caught.value.field == "database_url"


def test_a_server_that_does_not_answer_is_told() -> None:
    pytest.importorskip("psycopg")
    url = "postgresql+psycopg://leeway@127.0.0.1:1/leeway"
    with closing(Ledger.open(url)) as ledger, pytest.raises(MisConfigured, match="the ledger cannot be opened"):
        ledger.upgrade()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("a shopping list" * 100)
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with closing(Ledger.open(url)) as ledger, pytest.raises(MisConfigured, match="file is not a database"):
        ledger.upgrade()


def everything(ledger: Ledger) -> dict[str, list[Any]]:
    """All rows of all tables that have any."""
    with ledger.read() as connection:
        found = {table.name: connection.execute(select(table)).all() for table in tables.metadata.sorted_tables}
    return {name: rows for name, rows in found.items() if rows}
