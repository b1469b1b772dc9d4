"""The trail of who changed what."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.access.principal import Principal
from api.db.clock import DAY_SECONDS, database_now
from api.db.tables import AuditRow
from api.parameters import FilterText
from api.runs.views import moment
from pmae.schema_access import AuditEntry, AuditPage

_LONGEST_PATH = 1_000
_logger = logging.getLogger(__name__)


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


class AuditFilters(BaseModel):
    """Which entries a page shows."""

    model_config = ConfigDict(frozen=True)

    actor: FilterText | None = Field(
        default=None, description="Only what the key of this name did.", examples=["ada"]
    )
    limit: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=100, description="Most entries in the answer."
    )
    cursor: Annotated[str, Field(pattern=r"^[0-9]{1,18}$")] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


def record(sessions: sessionmaker[Session], attempt: Attempt) -> None:
    """Add an entry. One that cannot be written is logged: what it tells of has been done."""
    principal = attempt.principal
    values = {
        "actor": principal.name if principal else None,
        "role": principal.role if principal else None,
        "operation": attempt.operation[:64],
        "method": attempt.method[:8],
        # No database stores U+0000.
        "path": attempt.path[:_LONGEST_PATH].replace("\x00", "%00"),
        "status": attempt.status,
        "request_id": attempt.request_id,
        "address": attempt.address,
    }
    try:
        with sessions.begin() as session:
            session.execute(insert(AuditRow).values(at=database_now()), values)
    except SQLAlchemyError:
        _logger.exception("the audit trail lacks %s", attempt)


def list_entries(session: Session, filters: AuditFilters) -> AuditPage:
    """A page of the trail, newest first."""
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
    """Remove entries that are older than so many days.

    Returns:
        How many there were.
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
