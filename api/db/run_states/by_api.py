"""Changes of a run's state by the API and its reconciler."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from api.db.clock import database_now
from api.db.errors import TransitionRefusedError
from api.db.run_states.dependents import who_needs
from api.db.run_states.machine import Parent, add_history, current_state, hold, move, reclaim
from api.db.tables import RunEventRow, RunRow
from pmae.schema import TERMINAL_STATES
from pmae.spec import EvaluateSpec, RunSpec

_LONGEST_NAME = 120
_RUNS = RunRow.metadata.tables[RunRow.__tablename__]
_INSERT_RUN = (
    insert(_RUNS)
    .values(created_at=database_now(), queued_at=database_now())
    .returning(_RUNS.c.number, _RUNS.c.created_at, _RUNS.c.queued_at)
)
_AS_IT_IS = {
    "queued": "is queued",
    "running": "is running",
    "succeeded": "has succeeded",
    "failed": "has failed",
    "cancelled": "is already cancelled",
}
MAX_ATTEMPTS = 5
"""Starts of a run without progress before it fails."""


def submit(
    session: Session,
    *,
    spec: RunSpec,
    parent: Parent | None = None,
    preset: str | None = None,
    priority: int = 0,
    max_attempts: int = MAX_ATTEMPTS,
    rerun_of: str | None = None,
    owner: str | None = None,
    actor: str = "api",
) -> RunRow:
    """Record a new run, queued.

    Args:
        session: in a transaction.
        spec: resolved.
        parent: of an evaluation: the run that wrote the checkpoint; held.
        preset: name of the preset that the spec came from, if any.
        priority: runs of a higher priority start first.
        max_attempts: number of starts without progress, after its trainer was killed or its worker
            was lost, before the run fails.
        rerun_of: id of the run that it repeats, if any.
        owner: name of the API key that submits it; None where keys are off.
        actor: who submits it, for the history.
    """
    about = _about(spec, parent)
    values = {
        "id": secrets.token_hex(6),
        "kind": spec.kind,
        "name": spec.name or preset or about.name,
        "method": about.method,
        "dataset": about.dataset,
        "preset": preset,
        "spec": spec.model_dump(mode="json"),
        "tags": list(spec.tags),
        "notes": spec.notes,
        "devices": about.devices,
        "parent_id": parent.id if parent else None,
        "rerun_of": rerun_of,
        "owner": owner,
        "state": "queued",
        "priority": priority,
        "attempt": 0,
        "max_attempts": max_attempts,
        "lease_number": 0,
        "cancel_requested": False,
        "pinned": False,
        "recorded_offset": 0,
        "progress": {},
        "last_metrics": {},
        "environment": {},
    }
    row = _insert(session, values)
    message = f"submitted as a repetition of run {rerun_of}" if rerun_of else "submitted"
    add_history(session, row.number, actor, message, to="queued", lease_number=0, attempt=0)
    return row


@dataclass(frozen=True)
class _About:
    """Columns of a run that are derived from its spec."""

    name: str
    method: str
    dataset: str
    devices: int


def _insert(session: Session, values: dict[str, Any]) -> RunRow:
    """Insert a run and return its row.

    One statement with RETURNING on the connection: adding the object to the session takes two
    statements and three times as long.
    """
    generated = session.connection().execute(_INSERT_RUN, values).mappings().one()
    return RunRow(**values, **generated)


def _about(spec: RunSpec, parent: Parent | None) -> _About:
    if isinstance(spec, EvaluateSpec):
        assert parent is not None
        protocols = ", ".join(dict.fromkeys(each.protocol for each in spec.evaluations))
        name = f"{protocols} of {parent.name}"[:_LONGEST_NAME]
        return _About(name, parent.method, parent.dataset, 1)
    name = f"{spec.method} on {spec.dataset.name}"
    return _About(name, spec.method, spec.dataset.name, spec.devices)


def request_cancel(session: Session, run_id: str, *, actor: str) -> None:
    """Cancel a queued run at once; ask the worker to cancel a running one.

    Raises:
        RunNotFoundError: there is no such run.
        TransitionRefusedError: the run has ended.
    """
    # Lock first, so that a worker that gives the run back meanwhile is waited for. Otherwise it
    # could change from running to queued between the two statements, and neither would match.
    hold(session, run_id)
    starts = session.scalar(select(RunRow.lease_number).where(RunRow.id == run_id))
    why = "cancelled while it waited to continue" if starts else "cancelled before it started"
    cancelled = move(
        session,
        RunRow.id == run_id,
        from_state="queued",
        to="cancelled",
        actor=actor,
        reason=why,
        message=why,
        finished_at=database_now(),
    )
    if cancelled is not None:
        return
    asked = session.execute(
        update(RunRow)
        .where(RunRow.id == run_id, RunRow.state == "running")
        .values(cancel_requested=True)
        .returning(RunRow.number)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if asked is not None:
        event = RunEventRow(
            run_number=asked,
            at=database_now(),
            type="cancel",
            actor=actor,
            message="cancellation requested",
            data={},
        )
        session.add(event)
        return
    as_it_is = _AS_IT_IS[current_state(session, run_id)]
    raise TransitionRefusedError(
        f"run {run_id} {as_it_is}; only queued and running runs can be cancelled"
    )


def resume(session: Session, run_id: str, *, spec: RunSpec | None = None, actor: str) -> None:
    """Queue a failed or cancelled run again, with all its attempts; it continues where it stopped.

    Args:
        session: in a transaction.
        run_id: of the run.
        spec: the run's spec in the current format with all defaults written out, which a spec
            stored by an older version may lack; default: keep the stored one.
        actor: who resumes it, for the history.

    Raises:
        RunNotFoundError: there is no such run.
        TransitionRefusedError: the run is neither failed nor cancelled.
    """
    written_out = {} if spec is None else {"spec": spec.model_dump(mode="json")}
    for state in ("failed", "cancelled"):
        moved = move(
            session,
            RunRow.id == run_id,
            from_state=state,
            to="queued",
            actor=actor,
            reason=None,
            message="resumed",
            error=None,
            attempt=0,
            queued_at=database_now(),
            finished_at=None,
            cancel_requested=False,
            **written_out,
        )
        if moved is not None:
            return
    as_it_is = _AS_IT_IS[current_state(session, run_id)]
    raise TransitionRefusedError(
        f"run {run_id} {as_it_is} and cannot be resumed; only failed and cancelled runs can, but "
        "every run can be repeated (rerun)"
    )


def mark_deleted(session: Session, run_id: str, *, actor: str = "api") -> None:
    """Hide a run that has ended; its files and rows are removed afterwards.

    An event, which is kept, reports the deletion to clients that follow runs.

    Raises:
        RunNotFoundError: there is no such run.
        TransitionRefusedError: the run has not ended or is pinned, or another run that has not
            ended needs one of its checkpoints.
    """
    # A separate statement: the next one then sees all that was queued before the lock was taken.
    hold(session, run_id)
    needs = who_needs(session, run_id)
    if needs is not None:
        what = "evaluates" if needs.kind == "evaluate" else "starts from"
        raise TransitionRefusedError(
            f"run {run_id} cannot be deleted while run {needs.id} {what} a checkpoint of it; "
            "wait until it has ended, or cancel it"
        )
    deleted = session.execute(
        update(RunRow)
        .where(
            RunRow.id == run_id,
            RunRow.state.in_(TERMINAL_STATES),
            RunRow.pinned.is_(False),
            RunRow.deleted_at.is_(None),
        )
        .values(deleted_at=database_now())
        .returning(RunRow.number, RunRow.name)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if deleted is None:
        state = current_state(session, run_id)
        if state in TERMINAL_STATES:
            raise TransitionRefusedError(
                f"run {run_id} is pinned and cannot be deleted; unpin it first"
            )
        raise TransitionRefusedError(
            f"run {run_id} is {state} and cannot be deleted; cancel it first"
        )
    session.add(
        RunEventRow(
            run_number=None,
            key=run_id,
            at=database_now(),
            type="delete",
            actor=actor,
            message="deleted",
            data={"run_id": run_id, "number": deleted.number, "name": deleted.name},
        )
    )


def expire_leases(session: Session) -> list[str]:
    """Reclaim every running run whose lease has run out. Concurrent calls are safe.

    A run with a requested cancellation becomes cancelled, one with attempts left is queued again,
    and one without fails.

    Returns:
        The ids of the runs that changed.
    """
    why = "its worker did not renew the lease"
    return reclaim(session, RunRow.lease_until < database_now(), "reconciler", why)


def reclaim_restored(session: Session, why: str) -> list[str]:
    """Reclaim every run that was running when the backup was made that is being restored.

    This uses up no attempt. A run with a requested cancellation becomes cancelled.

    Returns:
        The ids of the runs that changed.
    """
    session.execute(
        update(RunRow)
        .where(RunRow.state == "running")
        .values(attempt=RunRow.attempt - 1)
        .execution_options(synchronize_session=False)
    )
    return reclaim(session, RunRow.number.is_not(None), "restore", why)
