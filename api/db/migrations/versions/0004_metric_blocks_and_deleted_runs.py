"""Block summaries of new and existing metric points; events of deleted runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DELETED = sa.text("deleted_at IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "metric_blocks",
        sa.Column(
            "run_number", _ID, sa.ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("name", sa.String(length=64), primary_key=True),
        sa.Column("block", sa.BigInteger(), primary_key=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("first_time", sa.Double(), nullable=False),
        sa.Column("last_time", sa.Double(), nullable=False),
        sa.Column("least", sa.Double(), nullable=False),
        sa.Column("least_step", sa.BigInteger(), nullable=False),
        sa.Column("greatest", sa.Double(), nullable=False),
        sa.Column("greatest_step", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        """
        INSERT INTO metric_blocks
        SELECT run_number, name, step / 64, count(*), min(step), max(step), min(time), max(time),
            min(value), max(CASE WHEN rising = 1 THEN step END),
            max(value), max(CASE WHEN falling = 1 THEN step END)
        FROM (
            SELECT *,
                row_number() OVER (
                    PARTITION BY run_number, name, step / 64 ORDER BY value, step
                ) AS rising,
                row_number() OVER (
                    PARTITION BY run_number, name, step / 64 ORDER BY value DESC, step
                ) AS falling
            FROM metrics
        ) AS points
        GROUP BY run_number, name, step / 64
        """
    )

    op.create_index(
        "ix_runs_deleted",
        "runs",
        ["deleted_at"],
        sqlite_where=_DELETED,
        postgresql_where=_DELETED,
    )
    _change_events(of_no_run=True)


def downgrade() -> None:
    op.execute("DELETE FROM run_events WHERE run_number IS NULL")
    _change_events(of_no_run=False)
    op.drop_index("ix_runs_deleted", "runs")
    op.drop_table("metric_blocks")


def _change_events(*, of_no_run: bool) -> None:
    # SQLite copies the table; the ids of deleted events must still not be reused.
    again = {"sqlite_autoincrement": True}
    with op.batch_alter_table("run_events", table_kwargs=again) as events:
        events.alter_column("run_number", existing_type=_ID, nullable=of_no_run)
