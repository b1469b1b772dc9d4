"""Entries of the audit trail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, sessionmaker

from api.auth.principal import Principal
from api.db.clock import DAY_SECONDS, database_now
from api.db.tables import AuditRow
from api.runs.views import moment
from pmae.schema.access import AuditEntry, AuditPage
from pmae.schema.run_query import FilterText
from pmae.spec.messages import with_message


@dataclass(frozen=True)
class Attempt:
    """A request that changed something, or tried to."""

    principal: Principal | None
    operation: str
    method: str
    path: str
    status: int
    request_id: str
    address: str


_CURSOR = with_message(r"^[0-9]{1,18}$", "expected the next_cursor of an earlier page")


class AuditFilters(BaseModel):
    """Query parameters that filter the entries."""

    model_config = ConfigDict(frozen=True)

    actor: FilterText | None = Field(
        default=None, description="Only requests with the key of this name.", examples=["ada"]
    )
    limit: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=100, description="Maximum number of entries in the response."
    )
    cursor: Annotated[str, Field(pattern=_CURSOR)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


def list_entries(session: Session, filters: AuditFilters) -> AuditPage:
    """Read one page of the trail, newest first."""
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(filters.limit + 1)
    if filters.actor is not None:
        query = query.where(AuditRow.actor == filters.actor)
    if filters.cursor is not None:
        query = query.where(AuditRow.id < int(filters.cursor))
    rows = session.scalars(query).all()
    page = rows[: filters.limit]
    more = len(rows) > filters.limit
    return AuditPage(
        items=[_view(row) for row in page], next_cursor=str(page[-1].id) if more else None
    )


def forget_old(sessions: sessionmaker[Session], days: int, *, dry_run: bool) -> int:
    """Remove entries older than ``days``; with ``dry_run``, only count them.

    Returns:
        The number of these entries.
    """
    old = AuditRow.at < database_now() - days * DAY_SECONDS
    with sessions.begin() as session:
        if dry_run:
            return session.scalar(select(func.count()).select_from(AuditRow).where(old)) or 0
        return len(session.execute(delete(AuditRow).where(old).returning(AuditRow.id)).all())


def _view(row: AuditRow) -> AuditEntry:
    return AuditEntry.model_validate(
        {
            "id": row.id,
            "at": moment(row.at),
            "actor": row.actor,
            "role": row.role,
            "operation": row.operation,
            "method": row.method,
            "path": row.path,
            "status": row.status,
            "request_id": row.request_id,
            "address": row.address,
        }
    )
