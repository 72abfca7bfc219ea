"""Agents, relationships, sessions, items, and lines with full-text search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from interplay.agents.tables import Moment

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# External content: the words are stored once, in `lines`, and the index follows by triggers. The relationship is
# indexed too, so that a search meets only the rows of its own user before anything is ranked.
SQLITE_SEARCH = (
    """CREATE VIRTUAL TABLE lines_fts USING fts5(
        relationship_id, text, content='lines', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2')""",
    """CREATE TRIGGER lines_ai AFTER INSERT ON lines BEGIN
        INSERT INTO lines_fts(rowid, relationship_id, text) VALUES (new.id, new.relationship_id, new.text); END""",
    """CREATE TRIGGER lines_ad AFTER DELETE ON lines BEGIN
        INSERT INTO lines_fts(lines_fts, rowid, relationship_id, text)
        VALUES ('delete', old.id, old.relationship_id, old.text); END""",
    """CREATE TRIGGER lines_au AFTER UPDATE ON lines BEGIN
        INSERT INTO lines_fts(lines_fts, rowid, relationship_id, text)
        VALUES ('delete', old.id, old.relationship_id, old.text);
        INSERT INTO lines_fts(rowid, relationship_id, text) VALUES (new.id, new.relationship_id, new.text); END""",
)
POSTGRES_SEARCH = (
    """ALTER TABLE lines ADD COLUMN search tsvector
        GENERATED ALWAYS AS (to_tsvector('english', text)) STORED""",
    "CREATE INDEX ix_lines_search ON lines USING gin (search)",
)


def _owner() -> sa.Column:
    return sa.Column(
        "relationship_id", sa.String(32), sa.ForeignKey("relationships.id", ondelete="CASCADE"), nullable=False
    )


def upgrade() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created", Moment, nullable=False),
    )
    op.create_table(
        "agent_versions",
        sa.Column("agent_id", sa.String(32), sa.ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("created", Moment, nullable=False),
    )
    op.create_table(
        "relationships",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("agent_id", sa.String(32), sa.ForeignKey("agents.id", ondelete="CASCADE"), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("created", Moment, nullable=False),
        sa.UniqueConstraint("agent_id", "user_id"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(32), primary_key=True),
        _owner(),
        sa.Column("agent_version", sa.Integer, nullable=False),
        sa.Column("started", Moment, nullable=False),
        sa.Column("seen", Moment, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
    )
    op.create_index("ix_sessions_relationship_id_started", "sessions", ["relationship_id", "started"])
    op.create_table(
        "items",
        sa.Column("id", sa.String(16), primary_key=True),
        _owner(),
        sa.Column("block", sa.String(16), nullable=False),
        sa.Column("key", sa.String(80), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("due", Moment),
        sa.Column("every_s", sa.Float),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("session_id", sa.String(32), sa.ForeignKey("sessions.id", ondelete="SET NULL")),
        sa.Column("at_s", sa.Float),
        sa.Column("end_s", sa.Float),
        sa.Column("created", Moment, nullable=False),
        sa.Column("updated", Moment, nullable=False),
        sa.UniqueConstraint("relationship_id", "block", "key"),
    )
    for last in (["due", "updated"], ["updated"], ["every_s"]):
        columns = ["relationship_id", "status", "block", *last]
        op.create_index(f"ix_items_{'_'.join(columns)}", "items", columns)
    op.create_table(
        "lines",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        _owner(),
        sa.Column("session_id", sa.String(32), sa.ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
        sa.Column("who", sa.String(8), nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_index("ix_lines_relationship_id_at", "lines", ["relationship_id", "at"])
    op.create_index("ix_lines_session_id_at_s", "lines", ["session_id", "at_s"])
    for statement in POSTGRES_SEARCH if op.get_bind().dialect.name == "postgresql" else SQLITE_SEARCH:
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE lines_fts")
    for table in ("lines", "items", "sessions", "relationships", "agent_versions", "agents"):
        op.drop_table(table)
