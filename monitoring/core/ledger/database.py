"""Opening the ledger, and its two kinds of transaction.

SQLite runs in WAL mode with `synchronous=FULL`; a write transaction is `BEGIN IMMEDIATE`, so that two writers queue
instead of failing half-way. PostgreSQL uses its own transactions. No transaction may span network or model I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from monitoring.core.errors import MisConfigured

MIGRATIONS = Path(__file__).parent.parent / "migrations"
BUSY_TIMEOUT_MS = 15_000


class Ledger:
    """The one seam between the roles: a database that remembers every state and every decision."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine
        self._file = Path(engine.url.database) if engine.dialect.name == "sqlite" and engine.url.database else None
        self._inode: int | None = None
        if engine.dialect.name == "postgresql":
            self._reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Ledger:
        """Open the database at `url` (SQLAlchemy form); SQLite's file is made where it is missing and may be.

        Raises MisConfigured for a URL that cannot be used.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise MisConfigured(f"database_url {url!r} is not a database URL", field="database_url") from error
        if parsed.get_backend_name() == "sqlite":
            if parsed.database:
                _find_or_make(Path(parsed.database), create=create)
            engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
            _configure_sqlite(engine)
        else:
            try:
                engine = create_engine(parsed, pool_pre_ping=True)
            except NoSuchModuleError as error:
                raise MisConfigured(
                    f"database_url names {parsed.drivername!r}: only sqlite and postgresql+psycopg are supported",
                    field="database_url",
                ) from error
            except ModuleNotFoundError as error:
                raise MisConfigured(
                    f"database_url needs the driver {error.name!r}: pip install 'leeway[postgres]'",
                    field="database_url",
                ) from error
        return cls(engine)

    def upgrade(self) -> None:
        """Bring the schema to the newest migration; safe to call from several roles at once."""
        try:
            with self.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(7238091)"))
                if not _is_newest(connection):
                    _migrate(connection)
        except DatabaseError as error:
            raise MisConfigured(f"the ledger cannot be opened: {error.orig}", field="database_url") from error
        self._inode = _inode_of(self._file)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction: commits at the end, rolls back on any exception."""
        self._check_place()
        with self._engine.connect().execution_options(leeway_write=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent snapshot, never blocks a writer."""
        self._check_place()
        with self._reader.connect() as connection, connection.begin():
            yield connection

    def flush(self) -> None:
        """Bring what SQLite has written ahead into its file, so that what was deleted is in neither of them."""
        if self._file is not None:
            raw = self._engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                raw.close()

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def _check_place(self) -> None:
        """SQLite writes on into a file that was deleted, and nobody would ever read it: that is a ledger that is away.

        Raises OperationalError, as for any other.
        """
        if self._inode is not None and _inode_of(self._file) != self._inode:
            gone = FileNotFoundError(f"{self._file} is gone or another one: bring it back and start again")
            raise OperationalError("open", None, gone)


def insert_ignore(connection: Connection, table: Table, values: list[dict[str, Any]]) -> int:
    """Insert rows, leaving out those that break a uniqueness constraint; the number inserted."""
    if not values:
        return 0
    build = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = build(table).on_conflict_do_nothing()
    return connection.execute(statement, values, execution_options={"preserve_rowcount": True}).rowcount


def upsert(connection: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    """Insert the row `key | values`, or update `values` where `key` (the primary key) exists."""
    build = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = build(table).values(**key, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))


def _is_newest(connection: Connection) -> bool:
    """Whether the last migration has run; asked without Alembic, which takes longer to import than all else here."""
    if not inspect(connection).has_table("alembic_version"):
        return False
    newest = max(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("*.py"))
    return bool(connection.scalar(text("SELECT version_num FROM alembic_version")) == newest)


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _find_or_make(file: Path, *, create: bool) -> None:
    """See that the file or its folder is there. Raises MisConfigured: an empty ledger would hide that one was lost."""
    if create:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif not file.exists():
        lost = (file.parent / "storage" / "bundles").exists()
        cure = "models are here, so one was: bring it back from a backup" if lost else "run `leeway init`"
        raise MisConfigured(f"there is no ledger {file}: {cure}, or set LEEWAY_HOME", field="database_url")


def _inode_of(file: Path | None) -> int | None:
    try:
        return None if file is None else file.stat().st_ino
    except FileNotFoundError:
        return None


def _configure_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(driver_connection: Any, _record: Any) -> None:
        driver_connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON"):
            driver_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("leeway_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
