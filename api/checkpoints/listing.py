"""Pages of a run's checkpoints."""

from __future__ import annotations

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.db.tables import CheckpointRow
from api.http.pagination import PageParameters, read_cursor, write_cursor
from api.runs.service import find_run_number
from api.runs.views import checkpoint_view
from pmae.schema import CheckpointKind, CheckpointPage


class CheckpointParameters(PageParameters):
    """Query parameters that filter a run's checkpoints."""

    kind: CheckpointKind | None = Field(
        default=None, description="`kept`, or `latest` for the one rolling checkpoint."
    )


def list_checkpoints(
    session: Session, run_id: str, parameters: CheckpointParameters
) -> CheckpointPage:
    """Read one page of a run's checkpoints, newest first.

    Raises:
        NotFoundError: there is no such run.
        InvalidRequestError: the cursor is not of this list.
    """
    number = find_run_number(session, run_id)
    this_list = f"checkpoints of {run_id}: {parameters.kind or 'all'}"
    query = select(CheckpointRow).where(CheckpointRow.run_number == number)
    if parameters.kind is not None:
        query = query.where(CheckpointRow.kind == parameters.kind)
    if parameters.cursor is not None:
        _, step = read_cursor(parameters.cursor, this_list)
        query = query.where(CheckpointRow.step < step)
    newest_first = query.order_by(CheckpointRow.step.desc())
    found = session.scalars(newest_first.limit(parameters.limit + 1)).all()
    rows = found[: parameters.limit]
    more = len(found) > len(rows)
    return CheckpointPage(
        items=[checkpoint_view(row, run_id) for row in rows],
        next_cursor=write_cursor(this_list, None, rows[-1].step) if more else None,
    )
