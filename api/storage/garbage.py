"""Find unneeded files on the artifact disk; :mod:`api.storage.collector` removes them.

Files of queued and running runs, and files younger than a given age, whose writer may still be
active, are never listed. Logs and events of leases stay as long as their run.
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
    """Database and files do not belong together; nothing was removed."""


@dataclass(frozen=True)
class Garbage:
    """A file or folder that can be removed.

    Attributes:
        kind: why it can be removed.
        path: of the file or folder.
        size: in bytes.
        run_id: the run that it belongs to; None: no known run.
    """

    kind: Kind
    path: Path
    size: int
    run_id: str | None = None


@dataclass(frozen=True)
class KnownRun:
    """The facts of a run that decide which of its files are needed."""

    number: int
    state: str
    is_deleted: bool
    basis_digest: str | None
    needs_basis: bool

    @property
    def is_at_rest(self) -> bool:
        """True if it has ended and is not deleted: no process writes its files."""
        return self.state in TERMINAL_STATES and not self.is_deleted

    @property
    def is_choosing_a_basis(self) -> bool:
        """True if it runs and has not recorded its basis yet."""
        return self.state == "running" and self.needs_basis and self.basis_digest is None


def known_runs(session: Session) -> dict[str, KnownRun]:
    """Read every run by id, including deleted ones that are not removed completely."""
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
    """List what can be removed from the runs' folders.

    Args:
        folders: of runs; listed before ``runs`` was read, since a run's row exists first.
        runs: by id.
        min_age_seconds: files changed more recently are kept.

    Raises:
        GarbageError: no folder belongs to a known run: database or folder is the wrong one.
    """
    if folders and not any(folder.name in runs for folder in folders):
        raise GarbageError(
            f"none of the {len(folders)} runs in {folders[0].parent} is in the database; expected "
            "PMAE_DATABASE_URL to name the database of PMAE_HOME and PMAE_ARTIFACT_ROOT"
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
    """List the bases that no run and no checkpoint names, and half-written ones.

    Empty while a running run has not recorded its basis yet.

    Args:
        bases_dir: the folder of all bases.
        run_folders: folders of the runs whose checkpoints may name a basis.
        runs: by id.
        min_age_seconds: files changed more recently are kept.
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
    """List the files that map a fit to this basis."""
    fits = basis.parent / _FITS
    return [path for path in fits.glob("*.json") if _pointed_at(path) == basis.name]


def size_of(path: Path) -> int:
    """Return the bytes of a file or of all files in a folder; files that vanish count 0."""
    return sum(_size(file) for file in (path.rglob("*") if path.is_dir() else [path]))


def _half_written(run: Path, min_age_seconds: float) -> Iterator[Garbage]:
    """Yield temporary files (their names begin with a dot) whose writer is gone."""
    folders = [run]
    for lease in RunDir(run).leases():
        folders += [lease.path, lease.checkpoints, lease.latest]
    for folder in folders:
        for path in folder.glob(".*"):
            # A trainer killed between hiding and checking a checkpoint leaves one that is marked.
            if _age(path) > min_age_seconds and not is_marked(path):
                yield Garbage("half-written", path, size_of(path), run.name)


def _old_rolling(run_dir: RunDir, run: KnownRun) -> Iterator[Garbage]:
    """Yield the rolling checkpoints of an ended run that no resume can need.

    All of them if the run succeeded, otherwise those before the newest valid checkpoint.
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
            continue  # replaced by one that names the same basis, or damaged and unusable
        if digest:
            yield str(digest)


def _pointed_at(pointer: Path) -> str | None:
    try:
        return str(json.loads(pointer.read_bytes())["basis"])
    except (OSError, ValueError, KeyError):
        return None


def _age(path: Path) -> float:
    """Return the seconds since anything in it changed; 0 if it is gone."""
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
