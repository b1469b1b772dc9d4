"""Sessions of signed-in browsers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sign_in_sessions",
        sa.Column("id", sa.String(length=16), primary_key=True),
        sa.Column(
            "key_id",
            sa.String(length=16),
            sa.ForeignKey("api_keys.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("browser", sa.String(length=80), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
    )


def downgrade() -> None:
    op.drop_table("sign_in_sessions")
