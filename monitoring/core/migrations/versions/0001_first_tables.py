"""The first tables.

Made from the metadata as it stands until the first release; from then on every change is a migration of its own.
"""

from alembic import op

from monitoring.core.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create all tables."""
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Drop all tables."""
    metadata.drop_all(op.get_bind())
