"""Alembic migrations of the store. `interplay agents` applies them by itself when it opens a store."""
