"""Alembic's entry point; ``api.db.migrate`` passes a connection that is in a transaction."""

from __future__ import annotations

from alembic import context

from api.db.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
