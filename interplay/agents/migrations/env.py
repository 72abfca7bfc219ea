"""Alembic's entry: the store hands its open connection over, so that there is one way to reach a database."""

from __future__ import annotations

from alembic import context

from interplay.agents.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run migrations through interplay: `interplay agents migrate`")
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
