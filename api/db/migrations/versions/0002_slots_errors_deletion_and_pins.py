"""Slots, errors with the log's tail, tombstones, pinned checkpoints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("devices", sa.Integer(), nullable=False, server_default="1"))
        runs.add_column(sa.Column("rerun_of", sa.String(length=32), nullable=True))
        runs.add_column(sa.Column("error", sa.JSON(), nullable=True))
        runs.add_column(sa.Column("deleted_at", sa.Double(), nullable=True))
    with op.batch_alter_table("checkpoints") as checkpoints:
        checkpoints.add_column(sa.Column("metrics", sa.JSON(), nullable=False, server_default="{}"))
        checkpoints.add_column(
            sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    # A worker writes its row again at its next heartbeat.
    op.execute("DELETE FROM workers")
    with op.batch_alter_table("workers") as workers:
        workers.drop_column("run_id")
        workers.add_column(sa.Column("started_at", sa.Double(), nullable=False))
        workers.add_column(sa.Column("kinds", sa.JSON(), nullable=False))
        workers.add_column(sa.Column("devices", sa.Integer(), nullable=False))
        workers.add_column(
            sa.Column("drain_requested", sa.Boolean(), nullable=False, server_default=sa.false())
        )


def downgrade() -> None:
    op.execute("DELETE FROM workers")
    with op.batch_alter_table("workers") as workers:
        for name in ("started_at", "kinds", "devices", "drain_requested"):
            workers.drop_column(name)
        workers.add_column(sa.Column("run_id", sa.String(length=32), nullable=True))
    with op.batch_alter_table("checkpoints") as checkpoints:
        for name in ("metrics", "pinned"):
            checkpoints.drop_column(name)
    with op.batch_alter_table("runs") as runs:
        for name in ("devices", "rerun_of", "error", "deleted_at"):
            runs.drop_column(name)
