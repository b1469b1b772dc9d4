"""A worker's slot, and its right to a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement

from api.db.tables import RunRow
from pmae.schema import RUN_KINDS, RunKind


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The runs that a worker can serve.

    Attributes:
        kinds: of runs.
        devices: number of GPUs; 1 without any.
    """

    kinds: tuple[RunKind, ...] = RUN_KINDS
    devices: int = 1

    def serves(self) -> ColumnElement[bool]:
        """Return the condition that this slot can serve a run."""
        return RunRow.kind.in_(self.kinds) & (RunRow.devices <= self.devices)


ANY_KIND = Slot()


@dataclass(frozen=True)
class Claim:
    """A worker's right to a run, until its lease ends.

    Attributes:
        number: the run's primary key.
        run_id: the run's id.
        lease_number: fences every write.
        attempt: number of starts since the run last made progress, including this one.
        max_attempts: maximum of ``attempt``.
        spec: resolved, as JSON.
        worker: name of the worker that claimed the run.
    """

    number: int
    run_id: str
    lease_number: int
    attempt: int
    max_attempts: int
    spec: dict[str, Any]
    worker: str


def held(claimed: Claim) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that the run still belongs to this claim."""
    return (
        RunRow.number == claimed.number,
        # SQLite reuses the number of the newest run after its deletion.
        RunRow.id == claimed.run_id,
        RunRow.lease_number == claimed.lease_number,
        RunRow.state == "running",
    )
