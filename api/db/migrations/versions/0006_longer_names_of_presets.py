"""Longer names of presets, for those with parameters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("runs", "preset", type_=sa.String(length=200))


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("UPDATE runs SET preset = left(preset, 64)")
        op.alter_column("runs", "preset", type_=sa.String(length=64))
