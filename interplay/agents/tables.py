"""The tables of the store, the same on SQLite and PostgreSQL. Changes go through a migration (`migrations/versions`).

Everything that a session leaves behind hangs on one relationship (one user, one agent) and is deleted with it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BLOCKS = ("user", "promise", "reminder")


class Moment(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC. SQLite keeps no zone, so the zone is ours to keep."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(sa.DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone is no point in time")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _owner() -> sa.Column[str]:
    return sa.Column(
        "relationship_id", sa.String(32), sa.ForeignKey("relationships.id", ondelete="CASCADE"), nullable=False
    )


agents = sa.Table(
    "agents",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created", Moment, nullable=False),
)

agent_versions = sa.Table(
    "agent_versions",
    metadata,
    sa.Column("agent_id", sa.String(32), sa.ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("created", Moment, nullable=False),
)

relationships = sa.Table(
    "relationships",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("agent_id", sa.String(32), sa.ForeignKey("agents.id", ondelete="CASCADE"), nullable=False),
    sa.Column("user_id", sa.String(128), nullable=False),
    sa.Column("created", Moment, nullable=False),
    sa.UniqueConstraint("agent_id", "user_id"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    _owner(),
    sa.Column("agent_version", sa.Integer, nullable=False),
    sa.Column("started", Moment, nullable=False),
    sa.Column("seen", Moment, nullable=False),  # last sign of life; an unclosed session that is silent has crashed
    sa.Column("closed", sa.Boolean, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Index(None, "relationship_id", "started"),
)

items = sa.Table(
    "items",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    _owner(),
    sa.Column("block", sa.String(16), nullable=False),
    sa.Column("key", sa.String(80), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("due", Moment),
    sa.Column("every_s", sa.Float),
    sa.Column("status", sa.String(8), nullable=False),  # open, done
    sa.Column("source", sa.String(8), nullable=False),  # plain, model, user, tool
    sa.Column("session_id", sa.String(32), sa.ForeignKey("sessions.id", ondelete="SET NULL")),
    sa.Column("at_s", sa.Float),  # session seconds of the words it came from
    sa.Column("end_s", sa.Float),
    sa.Column("created", Moment, nullable=False),
    sa.Column("updated", Moment, nullable=False),
    sa.UniqueConstraint("relationship_id", "block", "key"),
    # One for each way in which a session's first items are chosen; see `Scoped.core`.
    sa.Index(None, "relationship_id", "status", "block", "due", "updated"),
    sa.Index(None, "relationship_id", "status", "block", "updated"),
    sa.Index(None, "relationship_id", "status", "block", "every_s"),
)

lines = sa.Table(
    "lines",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    _owner(),
    sa.Column("session_id", sa.String(32), sa.ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    sa.Column("who", sa.String(8), nullable=False),  # user, agent
    sa.Column("at_s", sa.Float, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Index(None, "relationship_id", "at"),
    sa.Index(None, "session_id", "at_s"),
)

MEMORY_TABLES = (sessions, items, lines)  # whatever is in here belongs to exactly one relationship
