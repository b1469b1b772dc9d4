"""A worker's slot, and its right to a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement

from api.db.tables import RunRow
from pmae.schema import RUN_KINDS, RunKind


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What a worker can serve.

    Attributes:
        kinds: of runs.
        devices: how many GPUs it has; 1 without any.
    """

    kinds: tuple[RunKind, ...] = RUN_KINDS
    devices: int = 1

    def serves(self) -> ColumnElement[bool]:
        """The condition that a run is one for this slot."""
        return RunRow.kind.in_(self.kinds) & (RunRow.devices <= self.devices)


ANY_KIND = Slot()


@dataclass(frozen=True)
class Claim:
    """A worker's right to a run, until its lease ends.

    Attributes:
        number: the run's primary key.
        run_id: the run's id.
        lease_number: fences every write.
        attempt: how often the run was started since it last got further, this time included.
        max_attempts: how often it may be.
        spec: resolved, as JSON.
        worker: who claimed.
    """

    number: int
    run_id: str
    lease_number: int
    attempt: int
    max_attempts: int
    spec: dict[str, Any]
    worker: str


def held(claimed: Claim) -> tuple[ColumnElement[bool], ...]:
    """The conditions under which a write of this claim counts."""
    return (
        RunRow.number == claimed.number,
        # SQLite gives the number of a deleted newest run again.
        RunRow.id == claimed.run_id,
        RunRow.lease_number == claimed.lease_number,
        RunRow.state == "running",
    )
