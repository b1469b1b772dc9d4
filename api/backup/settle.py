"""Reconcile a restored database with the restored files.

The files were copied after the database: meanwhile a rolling checkpoint may have been replaced, a
kept one or a run deleted, and a run started again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from api.backup.manifest import FileEntry
from api.db import run_states
from api.db.clock import database_now
from api.db.tables import CheckpointRow, RunEventRow, RunRow, WorkerRow
from pmae.runs.layout import MANIFEST_FILE, PINNED_FILE, lease_number

_ACTOR = "restore"
_MAX_NAMED = 10


@dataclass
class RestoredFiles:
    """Description of the restored files.

    Attributes:
        leases: the highest number of a lease's folder, by run id.
        checkpoints: run id and name of each.
        pinned: run id and name of those whose folder has the mark.
    """

    leases: dict[str, int] = field(default_factory=dict)
    checkpoints: set[tuple[str, str]] = field(default_factory=set)
    pinned: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, entries: Iterable[FileEntry]) -> RestoredFiles:
        """Build it from the list of a generation."""
        found = cls()
        for entry in entries:
            parts = PurePosixPath(entry.path).parts
            if parts[0] != "runs" or len(parts) < 4:
                continue
            run_id, number = parts[1], lease_number(parts[2])
            if number is not None:
                found.leases[run_id] = max(number, found.leases.get(run_id, 0))
            if len(parts) == 6 and parts[5] == MANIFEST_FILE:
                found.checkpoints.add((run_id, parts[4]))
            elif len(parts) == 6 and parts[5] == PINNED_FILE:
                found.pinned.add((run_id, parts[4]))
        return found


@dataclass(frozen=True)
class Settled:
    """Changes to a restored database.

    Attributes:
        reclaimed: ids of the runs that were running at the backup.
        left_out: ids of the checkpoints whose files were removed before they were copied.
    """

    reclaimed: list[str]
    left_out: list[str]


def settle(session: Session, files: RestoredFiles, made_at: str) -> Settled:
    """Change the rows to match the files, in a transaction of the session.

    Args:
        session: of the restored database, whose schema is this version's.
        files: that were restored.
        made_at: time of the backup, for the history of the runs.
    """
    # Workers may start again under the same names; they write their rows themselves.
    session.execute(delete(WorkerRow))
    _raise_lease_numbers(session, files)
    left_out = _leave_out_checkpoints(session, files, made_at)
    why = f"restored from the backup of {made_at}; it continues from its newest checkpoint"
    return Settled(run_states.reclaim_restored(session, why), left_out)


def _raise_lease_numbers(session: Session, files: RestoredFiles) -> None:
    """Raise lease numbers to those of the folders.

    A run that was started again during the copy has a folder that no row names, and a lease must
    not write into the folder of an older one.
    """
    for number, run_id, lease in session.execute(
        select(RunRow.number, RunRow.id, RunRow.lease_number)
    ).all():
        if files.leases.get(run_id, 0) > lease:
            session.execute(
                update(RunRow)
                .where(RunRow.number == number)
                .values(lease_number=files.leases[run_id])
                .execution_options(synchronize_session=False)
            )


def _leave_out_checkpoints(session: Session, files: RestoredFiles, made_at: str) -> list[str]:
    """Remove the rows of missing checkpoints, and set ``pinned`` by the marks."""
    rows = session.execute(
        select(CheckpointRow.id, CheckpointRow.name, CheckpointRow.pinned, RunRow.id.label("run"))
        .join(RunRow, RunRow.number == CheckpointRow.run_number)
        .where(RunRow.deleted_at.is_(None))
        .order_by(CheckpointRow.run_number, CheckpointRow.step)
    ).all()
    missing: dict[str, list[str]] = {}
    left_out: list[str] = []
    for row in rows:
        which = (row.run, row.name)
        if which not in files.checkpoints:
            missing.setdefault(row.run, []).append(row.name)
            left_out.append(row.id)
            session.execute(delete(CheckpointRow).where(CheckpointRow.id == row.id))
        elif row.pinned != (which in files.pinned):
            session.execute(
                update(CheckpointRow)
                .where(CheckpointRow.id == row.id)
                .values(pinned=which in files.pinned)
                .execution_options(synchronize_session=False)
            )
    for run_id, names in missing.items():
        number = session.scalar(select(RunRow.number).where(RunRow.id == run_id))
        session.add(
            RunEventRow(
                run_number=number,
                at=database_now(),
                type="checkpoint",
                actor=_ACTOR,
                message=f"the files of {_some(names)} were removed before the backup of {made_at} "
                "copied them",
                data={"left_out": names},
            )
        )
    return left_out


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
