"""Find what nothing needs any more on the artifact disk; :mod:`api.storage.collector` removes it.

Nothing of a run that is queued or running is ever named, and nothing that is younger than a given
age, since its writer may still be at work. Logs and events of leases stay as long as their run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.db.tables import RunRow
from pmae.errors import PmaeError
from pmae.runs.layout import CONFIG_FILE, LeaseDir, RunDir
from pmae.runs.removal import is_marked
from pmae.schema import TERMINAL_STATES

Kind = Literal[
    "deleted run", "unknown run", "half-written", "old rolling checkpoint", "unused basis"
]

_FITS = "fits"


class GarbageError(PmaeError):
    """What is garbage cannot be told; nothing was removed."""


@dataclass(frozen=True)
class Garbage:
    """A file or folder that can go.

    Attributes:
        kind: why.
        path: of it.
        size: in bytes.
        run_id: the run whose files it is among; None: of no run that is known.
    """

    kind: Kind
    path: Path
    size: int
    run_id: str | None = None


@dataclass(frozen=True)
class KnownRun:
    """What the database says of a run."""

    number: int
    state: str
    is_deleted: bool
    basis_digest: str | None
    needs_basis: bool

    @property
    def is_at_rest(self) -> bool:
        """Nobody writes its files."""
        return self.state in TERMINAL_STATES and not self.is_deleted

    @property
    def is_choosing_a_basis(self) -> bool:
        """It runs, and has not said yet which basis it uses."""
        return self.state == "running" and self.needs_basis and self.basis_digest is None


def known_runs(session: Session) -> dict[str, KnownRun]:
    """Every run by id, those included that are deleted but for what is left of them."""
    columns = (RunRow.id, RunRow.number, RunRow.state, RunRow.deleted_at, RunRow.basis_digest)
    rows = session.execute(select(*columns, RunRow.spec)).all()
    return {
        row.id: KnownRun(
            number=row.number,
            state=row.state,
            is_deleted=row.deleted_at is not None,
            basis_digest=row.basis_digest,
            needs_basis=row.spec.get("basis") is not None,
        )
        for row in rows
    }


def find_in_runs(
    folders: Sequence[Path], runs: dict[str, KnownRun], min_age_seconds: float
) -> list[Garbage]:
    """What can go of the runs' folders.

    Args:
        folders: of runs; listed before ``runs`` was read, since a run's row is there first.
        runs: by id.
        min_age_seconds: what was changed since is left.

    Raises:
        GarbageError: none of the folders is of a known run: it is the wrong database, or folder.
    """
    if folders and not any(folder.name in runs for folder in folders):
        raise GarbageError(
            f"the database knows none of the {len(folders)} runs in {folders[0].parent}: is "
            "PMAE_DATABASE_URL the one that belongs to PMAE_HOME and PMAE_ARTIFACT_ROOT?"
        )
    found: list[Garbage] = []
    for folder in folders:
        run = runs.get(folder.name)
        if run is None:
            if _age(folder) > min_age_seconds:
                found.append(Garbage("unknown run", folder, size_of(folder)))
        elif run.is_deleted:
            found.append(Garbage("deleted run", folder, size_of(folder), folder.name))
        elif run.is_at_rest:
            found += _half_written(folder, min_age_seconds)
            found += _old_rolling(RunDir(folder), run)
    return found


def find_unused_bases(
    bases_dir: Path,
    run_folders: Sequence[Path],
    runs: dict[str, KnownRun],
    min_age_seconds: float,
) -> list[Garbage]:
    """The bases that no run and no checkpoint names, and what was left of half-written ones.

    Empty while a running run has not said yet which basis it uses.

    Args:
        bases_dir: of all bases.
        run_folders: whose checkpoints count.
        runs: by id.
        min_age_seconds: what was changed since is left.
    """
    if not bases_dir.is_dir():
        return []
    found = [
        Garbage("half-written", path, size_of(path))
        for parent in (bases_dir, bases_dir / _FITS)
        if parent.is_dir()
        for path in parent.iterdir()
        if path.name.startswith(".") and _age(path) > min_age_seconds
    ]
    if any(run.is_choosing_a_basis for run in runs.values()):
        return found
    used = {run.basis_digest for run in runs.values() if not run.is_deleted}
    used |= {digest for folder in run_folders for digest in _named_by_checkpoints(folder)}
    for folder in sorted(bases_dir.iterdir()):
        if folder.name in used or folder.name == _FITS or folder.name.startswith("."):
            continue
        if _age(folder) > min_age_seconds:
            found.append(Garbage("unused basis", folder, size_of(folder)))
    return found


def pointers_to(basis: Path) -> list[Path]:
    """The files that say which fit gave a basis."""
    fits = basis.parent / _FITS
    return [path for path in fits.glob("*.json") if _pointed_at(path) == basis.name]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; what vanishes meanwhile counts nothing."""
    return sum(_size(file) for file in (path.rglob("*") if path.is_dir() else [path]))


def _half_written(run: Path, min_age_seconds: float) -> Iterator[Garbage]:
    """Temporary names (they begin with a dot) whose writer is gone."""
    folders = [run]
    for lease in RunDir(run).leases():
        folders += [lease.path, lease.checkpoints, lease.latest]
    for folder in folders:
        for path in folder.glob(".*"):
            # A trainer that was killed just now may have hidden a checkpoint that is marked.
            if _age(path) > min_age_seconds and not is_marked(path):
                yield Garbage("half-written", path, size_of(path), run.name)


def _old_rolling(run_dir: RunDir, run: KnownRun) -> Iterator[Garbage]:
    """The rolling checkpoints that no resume of a run that has ended can need.

    Of a run that succeeded all of them; of another one those before the newest valid checkpoint.
    """
    rolling = [
        folder
        for lease in run_dir.leases()
        for folder in lease.latest.glob("step-*")
        if folder.is_dir()
    ]
    if run.state != "succeeded":
        if len(rolling) + sum(_count(lease) for lease in run_dir.leases()) < 2:
            return
        from pmae.runs.checkpoints import newest_valid

        newest, _ = newest_valid(run_dir)
        rolling = [folder for folder in rolling if newest and folder.name < newest.name]
    for folder in rolling:
        yield Garbage("old rolling checkpoint", folder, size_of(folder), run_dir.path.name)


def _count(lease: LeaseDir) -> int:
    return sum(1 for _ in lease.checkpoints.glob("step-*"))


def _named_by_checkpoints(run: Path) -> Iterator[str]:
    for config in run.glob(f"lease-*/*/*/{CONFIG_FILE}"):
        try:
            digest = json.loads(config.read_bytes()).get("basis_digest")
        except (FileNotFoundError, ValueError):
            continue  # replaced meanwhile by one that names the same; or broken, of no use to a run
        if digest:
            yield str(digest)


def _pointed_at(pointer: Path) -> str | None:
    try:
        return str(json.loads(pointer.read_bytes())["basis"])
    except (OSError, ValueError, KeyError):
        return None


def _age(path: Path) -> float:
    """Seconds since anything in it was changed; 0 if it is gone."""
    try:
        newest = max(
            path.stat().st_mtime,
            *(child.lstat().st_mtime for child in (path.rglob("*") if path.is_dir() else ())),
            0.0,
        )
    except FileNotFoundError:
        return 0.0
    return time.time() - newest


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size if not file.is_dir() else 0
    except FileNotFoundError:
        return 0
