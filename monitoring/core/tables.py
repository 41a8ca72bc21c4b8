"""The ledger's tables: everything Leeway must not forget, in one place (SQLAlchemy Core; SQLite and PostgreSQL)."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on databases that keep none."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive datetimes: they are where time zones get lost."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: pass an aware UTC datetime")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back an aware UTC datetime."""
        return None if value is None else value.replace(tzinfo=UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

models = Table(
    "models",
    metadata,
    Column("name", String(120), primary_key=True),
    Column("production", String(36)),
    Column("previous", String(36)),
    Column("watch_until", UtcDateTime),
    Column("promoted_at", UtcDateTime),
    Column("fence", Integer, nullable=False, default=0),
)

versions = Table(
    "versions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(120), ForeignKey("models.name"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("stage", String(24), nullable=False, index=True),
    Column("bundle_uri", Text, nullable=False),
    Column("bundle_hash", String(64), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("lineage", JSON, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("model", "number"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("version", String(36), ForeignKey("versions.id"), nullable=False, index=True),
    Column("bundle_hash", String(64), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("person", String(120), nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(120), ForeignKey("models.name"), nullable=False),
    Column("candidate", String(36), ForeignKey("versions.id"), nullable=False),
    Column("champion", String(36), ForeignKey("versions.id"), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("stage", String(24), nullable=False),
    Column("step", Integer, nullable=False),
    Column("share", Float, nullable=False),
    Column("salt", String(32), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("analysis", JSON, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("step_started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index(
        "uq_open_rollout",
        "model",
        unique=True,
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(120), ForeignKey("models.name"), nullable=False),
    Column("cause", String(24), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("result", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("owner", String(64)),
    Column("fence", Integer, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Index(
        "uq_open_job",
        "model",
        "cause",
        unique=True,
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
)

ticks = Table(
    "ticks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("trigger", String(160), nullable=False),
    Column("window", UtcDateTime, nullable=False),
    Column("owner", String(64)),
    Column("fence", Integer, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("finished_at", UtcDateTime, index=True),
    Column("error", Text),
    UniqueConstraint("trigger", "window"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(160), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("loaded", JSON, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("prediction_id", String(36), nullable=False, index=True),
    Column("source", String(24), nullable=False),
    Column("label", String(200)),
    Column("rating", Float),
    Column("sampling_probability", Float, nullable=False),
    Column("received_at", UtcDateTime, nullable=False, index=True),
    Column("author", String(120), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("prediction_id", String(36), nullable=False),
    Column("model", String(120), nullable=False),
    Column("version", String(36), nullable=False),
    Column("variant", String(16), nullable=False),
    Column("rollout", String(36)),
    Column("step", Integer, nullable=False),
    Column("unit", String(32), nullable=False),
    Column("predicted", String(200), nullable=False),
    Column("label", String(200), nullable=False),
    Column("confidence", Float, nullable=False),
    Column("source", String(24), nullable=False),
    Column("sampling_probability", Float, nullable=False),
    Column("predicted_at", UtcDateTime, nullable=False),
    Column("labelled_at", UtcDateTime, nullable=False),
    Column("slices", JSON, nullable=False, default=()),
    # a correction is kept beside what it corrects
    UniqueConstraint("prediction_id", "version", "source", "label", "labelled_at", name="uq_outcome"),
    Index("ix_outcomes_version", "version", "predicted_at"),
    Index("ix_outcomes_rollout", "rollout"),
)

label_queue = Table(
    "label_queue",
    metadata,
    Column("model", String(120), primary_key=True),
    Column("prediction_id", String(36), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("version", String(36), nullable=False),
    Column("predicted_at", UtcDateTime, nullable=False),
    Column("drawn_at", UtcDateTime, nullable=False),
    Column("entry", JSON, nullable=False),
)

exposures = Table(
    "exposures",
    metadata,
    Column("rollout", String(36), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("unit", String(32), primary_key=True),
    Column("candidate", Integer, nullable=False),
    Column("share", Float, nullable=False),
    Column("first_seen", UtcDateTime, nullable=False),
    Column("requests", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("slow", Integer, nullable=False),
)

detector_states = Table(
    "detector_states",
    metadata,
    Column("version", String(36), primary_key=True),
    Column("model", String(120), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("state", LargeBinary, nullable=False),
)

slice_memories = Table(
    "slice_memories",
    metadata,
    Column("version", String(36), primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("state", LargeBinary, nullable=False),
)

cursors = Table(
    "cursors",
    metadata,
    Column("name", String(160), primary_key=True),
    Column("position", JSON, nullable=False),
)

drift_reports = Table(
    "drift_reports",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(120), nullable=False),
    Column("version", String(36), nullable=False),
    Column("window_start", UtcDateTime, nullable=False),
    Column("window_end", UtcDateTime, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("report", JSON, nullable=False),
    Index("ix_drift_reports_model", "model", "window_end"),
)

baselines = Table(
    "baselines",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("version", String(36), nullable=False, index=True),
    Column("uri", String(300), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("n", Integer, nullable=False),
    Column("actor", String(120), nullable=False),
    Column("reason", Text, nullable=False),
    Column("set_at", UtcDateTime, nullable=False),
)

window_profiles = Table(
    "window_profiles",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(120), nullable=False),
    Column("version", String(36), nullable=False),
    Column("baseline", String(32), nullable=False),
    Column("window_start", UtcDateTime, nullable=False),
    Column("window_end", UtcDateTime, nullable=False),
    Column("windows", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Index("ix_window_profiles_version", "version", "window_end"),
    Index("ix_window_profiles_model", "model", "window_end"),
)

gauges = Table(
    "gauges",
    metadata,
    Column("model", String(120), primary_key=True),
    Column("version", String(36), primary_key=True),
    Column("values", JSON, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(120), nullable=False),
    Column("version", String(36), nullable=False),
    Column("name", String(64), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("summary", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    Index(
        "uq_open_alert",
        "model",
        "name",
        unique=True,
        sqlite_where=text("resolved_at IS NULL"),
        postgresql_where=text("resolved_at IS NULL"),
    ),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("payload", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("delivered_at", UtcDateTime, index=True),
    Column("receivers", JSON, nullable=False),
    Column("error", Text),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(120), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(200), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("roles", JSON, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("key", String(36), ForeignKey("keys.id"), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
