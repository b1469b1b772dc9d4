"""API keys, the audit trail, idempotent submission; a run's parent, owner, notes and pin."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_RUN_COLUMNS = ("parent_id", "owner", "notes", "pinned")


def upgrade() -> None:
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("parent_id", sa.String(length=32), nullable=True))
        runs.add_column(sa.Column("owner", sa.String(length=64), nullable=True))
        runs.add_column(sa.Column("notes", sa.Text(), nullable=False, server_default=""))
        runs.add_column(
            sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        runs.create_index("ix_runs_parent_id", ["parent_id"])
    _never_reuse_event_ids(reuse=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(length=64), primary_key=True),
        sa.Column("key", sa.String(length=200), primary_key=True),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False, index=True),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=16), primary_key=True),
        sa.Column("name", sa.String(length=64), nullable=False, unique=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=True, index=True),
        sa.Column("role", sa.String(length=16), nullable=True),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
    )


def downgrade() -> None:
    for name in ("audit_log", "api_keys", "idempotency_keys"):
        op.drop_table(name)
    _never_reuse_event_ids(reuse=True)
    with op.batch_alter_table("runs") as runs:
        runs.drop_index("ix_runs_parent_id")
        for name in _RUN_COLUMNS:
            runs.drop_column(name)


def _never_reuse_event_ids(*, reuse: bool) -> None:
    """Make SQLite not reuse the id of the newest row after its deletion (AUTOINCREMENT)."""
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table(
            "run_events", recreate="always", table_kwargs={"sqlite_autoincrement": not reuse}
        ):
            pass
