"""Alembic's environment: migrations run on the connection that `Ledger.upgrade` hands over."""

from alembic import context

from monitoring.core.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=False,
)
context.run_migrations()
