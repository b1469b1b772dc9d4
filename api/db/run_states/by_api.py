"""What the API and its reconciler do with the state of a run."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from api.db.clock import database_now
from api.db.errors import TransitionRefusedError
from api.db.run_states.dependents import who_needs
from api.db.run_states.machine import Parent, current_state, hold, move, take_back, tell
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
    "cancelled": "is cancelled already",
}
MAX_ATTEMPTS = 5
"""How often a run is started without getting any further before it is given up."""


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
        parent: of an evaluation: the run that made the checkpoint; held.
        preset: the preset it was made from, if any.
        priority: higher runs first.
        max_attempts: how often it is started, when its trainer is killed or its worker is lost,
            without getting any further.
        rerun_of: id of the run that it repeats, if any.
        owner: name of the API key that submits; None where keys are off.
        actor: who submits.
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
    tell(session, row.number, actor, message, to="queued", lease_number=0, attempt=0)
    return row


@dataclass(frozen=True)
class _About:
    """What the list says of a run, and what it needs."""

    name: str
    method: str
    dataset: str
    devices: int


def _insert(session: Session, values: dict[str, Any]) -> RunRow:
    """Insert a run, and give it as it stands there.

    One statement on the connection that returns what the database has made up: an object that is
    added to the session takes two, and three times the time.
    """
    made_up = session.connection().execute(_INSERT_RUN, values).mappings().one()
    return RunRow(**values, **made_up)


def _about(spec: RunSpec, parent: Parent | None) -> _About:
    if isinstance(spec, EvaluateSpec):
        assert parent is not None
        protocols = ", ".join(dict.fromkeys(each.protocol for each in spec.evaluations))
        name = f"{protocols} of {parent.name}"[:_LONGEST_NAME]
        return _About(name, parent.method, parent.dataset, 1)
    name = f"{spec.method} on {spec.dataset.name}"
    return _About(name, spec.method, spec.dataset.name, spec.devices)


def request_cancel(session: Session, run_id: str, *, actor: str) -> None:
    """Cancel a queued run at once; ask the worker of a running one to.

    Raises:
        RunNotFoundError: there is no such run.
        TransitionRefusedError: the run has ended.
    """
    # First of all: a worker that is giving it back meanwhile is waited for. Else it could go from
    # running to queued between the two statements, and neither would find it.
    hold(session, run_id)
    starts = session.scalar(select(RunRow.lease_number).where(RunRow.id == run_id))
    why = "cancelled while it waited to go on" if starts else "cancelled before it started"
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
            message="asked to cancel",
            data={},
        )
        session.add(event)
        return
    as_it_is = _AS_IT_IS[current_state(session, run_id)]
    raise TransitionRefusedError(
        f"run {run_id} {as_it_is}; what is queued or running can be cancelled"
    )


def resume(session: Session, run_id: str, *, spec: RunSpec | None = None, actor: str) -> None:
    """Queue a failed or cancelled run again, with all its attempts; it goes on where it was.

    Args:
        session: in a transaction.
        run_id: of the run.
        spec: the run's own with everything written out that its stored one may leave unsaid, since
            an older version stored it; default: the stored one stays.
        actor: who resumes it.

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
        f"run {run_id} {as_it_is} and cannot be resumed; failed and cancelled runs can, and every "
        "run can be repeated (rerun)"
    )


def mark_deleted(session: Session, run_id: str, *, actor: str = "api") -> None:
    """Hide a run that has ended; its files and rows are removed afterwards.

    Who follows runs is told so by an event, which stays.

    Raises:
        RunNotFoundError: there is no such run.
        TransitionRefusedError: the run has not ended or is pinned, or one that has not ended
            evaluates its checkpoint or starts from it.
    """
    # In a statement of its own: the next one sees what was queued until the lock was there.
    hold(session, run_id)
    needs = who_needs(session, run_id)
    if needs is not None:
        what = "evaluates" if needs.kind == "evaluate" else "starts from"
        raise TransitionRefusedError(
            f"run {run_id} cannot be deleted while run {needs.id} {what} a checkpoint of it; "
            "wait for that one or cancel it"
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
    """Take back every run whose lease has ended. Safe to run twice at once.

    A run that was to be cancelled is cancelled, one with attempts left is queued again, and one
    without is failed.

    Returns:
        The ids of the runs that changed.
    """
    why = "its worker was not heard of until the lease ended"
    return take_back(session, RunRow.lease_until < database_now(), "reconciler", why)


def take_back_restored(session: Session, why: str) -> list[str]:
    """Take back every run that was running when the backup was made that is being restored.

    Nothing went wrong with it: no attempt is used up. One that was to be cancelled is cancelled.

    Returns:
        The ids of the runs that changed.
    """
    session.execute(
        update(RunRow)
        .where(RunRow.state == "running")
        .values(attempt=RunRow.attempt - 1)
        .execution_options(synchronize_session=False)
    )
    return take_back(session, RunRow.number.is_not(None), "restore", why)
