"""Change a run's name, tags, notes, pin and priority. Its spec never changes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from api.db.clock import database_now
from api.db.errors import RunNotFoundError, TransitionRefusedError
from api.db.tables import RunEventRow, RunRow
from pmae.schema.runs import RunChange

_LONG = frozenset({"notes"})
"""The history records that these changed, without the values."""


def change_run(session: Session, run_id: str, change: RunChange, *, actor: str) -> None:
    """Set the columns that ``change`` gives, and record old and new values in the history.

    Raises:
        RunNotFoundError: there is no such run.
        TransitionRefusedError: a new priority for a run that is not queued.
    """
    which = (RunRow.id == run_id, RunRow.deleted_at.is_(None))
    # Changes nothing, but locks the row: the values compared below stay until the commit.
    row = session.execute(
        update(RunRow)
        .where(*which)
        .values(pinned=RunRow.pinned)
        .returning(
            RunRow.number,
            RunRow.state,
            RunRow.name,
            RunRow.tags,
            RunRow.notes,
            RunRow.pinned,
            RunRow.priority,
        )
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        raise RunNotFoundError(run_id)
    before = row._asdict()
    values = {name: value for name, value in change.values.items() if value != before[name]}
    if "priority" in values and row.state != "queued":
        raise TransitionRefusedError(
            f"run {run_id} is {row.state}: only the priority of a queued run can be changed"
        )
    if not values:
        return
    session.execute(
        update(RunRow).where(*which).values(values).execution_options(synchronize_session=False)
    )
    session.add(
        RunEventRow(
            run_number=row.number,
            at=database_now(),
            type="change",
            actor=actor,
            message="; ".join(
                _describe(name, before[name], value) for name, value in values.items()
            ),
            data={
                "changed": {
                    name: {} if name in _LONG else {"from": before[name], "to": value}
                    for name, value in values.items()
                }
            },
        )
    )


def _describe(name: str, before: Any, value: Any) -> str:
    if name == "pinned":
        return "pinned" if value else "unpinned"
    if name in _LONG:
        return f"changed the {name}"
    return f"changed the {name} from {_format(before)} to {_format(value)}"


def _format(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return repr(value) if isinstance(value, str) else str(value)
