"""Find queued and running runs that need a checkpoint of another run."""

from __future__ import annotations

from sqlalchemy import Row, or_, select
from sqlalchemy.orm import Session

from api.db.tables import RunRow
from pmae.schema import RUN_STATES, TERMINAL_STATES, RunState

UNFINISHED_STATES: tuple[RunState, ...] = tuple(
    state for state in RUN_STATES if state not in TERMINAL_STATES
)
_NAMED_IN = ("init_from", "checkpoint")
"""Fields of specs that name a checkpoint as ``<run id>/<checkpoint name>``."""


def who_needs(
    session: Session, run_id: str, checkpoint_name: str | None = None
) -> Row[str, str, str] | None:
    """Find a run that needs a checkpoint of the run ``run_id``: id, state and kind, or None.

    Args:
        session: in a transaction that holds that run, so that no other run begins to need it.
        run_id: the run that wrote the checkpoint.
        checkpoint_name: name of the checkpoint; None: any.
    """
    named = [RunRow.spec[field].as_string() for field in _NAMED_IN]
    needs = [
        field.startswith(f"{run_id}/", autoescape=True)
        if checkpoint_name is None
        else field == f"{run_id}/{checkpoint_name}"
        for field in named
    ]
    return session.execute(
        select(RunRow.id, RunRow.state, RunRow.kind)
        .where(RunRow.state.in_(UNFINISHED_STATES), or_(*needs))
        .limit(1)
    ).one_or_none()
