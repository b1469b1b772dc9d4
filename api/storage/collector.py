"""Remove files that nothing needs: ``pmae gc``. Safe while the service runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, sessionmaker

from api.db.settings import ServiceSettings
from api.db.tables import CheckpointRow, RunRow
from api.storage.deletion import finish_deletions, remove_tree
from api.storage.garbage import (
    Garbage,
    KnownRun,
    find_in_runs,
    find_unused_bases,
    known_runs,
    pointers_to,
)
from pmae.schema import TERMINAL_STATES

MIN_AGE_SECONDS = 86_400.0
"""Younger files may still be written, or be part of a backup that is being restored."""
_log = logging.getLogger(__name__)


def find_garbage(
    sessions: sessionmaker[Session],
    settings: ServiceSettings,
    *,
    min_age_seconds: float = MIN_AGE_SECONDS,
    keep_bases: bool = False,
) -> list[Garbage]:
    """List the files that can be removed. Changes nothing.

    Args:
        sessions: of the run database.
        settings: name the folders.
        min_age_seconds: files changed more recently are kept.
        keep_bases: list no basis.

    Raises:
        GarbageError: the database and the files do not belong together.
    """
    # List the folders first: a run's row exists before its folder.
    folders = _folders(settings.runs_dir)
    runs = _known(sessions)
    found = find_in_runs(folders, runs, min_age_seconds)
    if keep_bases:
        return found
    going = {garbage.path for garbage in found}
    staying = [folder for folder in folders if folder not in going]
    return found + find_unused_bases(settings.bases_dir, staying, runs, min_age_seconds)


def remove_garbage(
    sessions: sessionmaker[Session],
    settings: ServiceSettings,
    garbage: list[Garbage],
) -> list[Garbage]:
    """Remove what :func:`find_garbage` listed, if it is still garbage.

    Returns:
        What was removed. Failures are logged and left for the next call.
    """
    gone = set(finish_deletions(sessions, settings.runs_dir))
    removed: list[Garbage] = []
    for found in garbage:
        if found.kind == "deleted run":
            if found.run_id in gone or not found.path.exists():
                removed.append(found)
            continue
        try:
            if _REMOVERS[found.kind](sessions, settings, found):
                removed.append(found)
        except OSError as error:
            _log.warning("%s cannot be removed: %s", found.path, error)
    return removed


def _remove_unknown_run(
    sessions: sessionmaker[Session], _settings: ServiceSettings, found: Garbage
) -> bool:
    with sessions() as session:
        known = session.scalar(select(RunRow.number).where(RunRow.id == found.path.name))
    if known is not None:
        return False
    remove_tree(found.path)
    return True


def _remove_of_run(
    sessions: sessionmaker[Session], _settings: ServiceSettings, found: Garbage
) -> bool:
    """Remove a part of a run's folder, unless the run was resumed meanwhile."""
    if found.run_id is not None:
        at_rest = RunRow.state.in_(TERMINAL_STATES)
        with sessions() as session:
            if (
                session.scalar(select(RunRow.number).where(RunRow.id == found.run_id, at_rest))
                is None
            ):
                return False
    if found.path.is_dir():
        remove_tree(found.path)
    else:
        found.path.unlink(missing_ok=True)
    return True


def _remove_rolling(
    sessions: sessionmaker[Session], settings: ServiceSettings, found: Garbage
) -> bool:
    if not _remove_of_run(sessions, settings, found):
        return False
    run = select(RunRow.number).where(RunRow.id == found.run_id, RunRow.state.in_(TERMINAL_STATES))
    with sessions.begin() as session:
        session.execute(
            delete(CheckpointRow).where(
                CheckpointRow.run_number.in_(run),
                CheckpointRow.kind == "latest",
                CheckpointRow.name == found.path.name,
            )
        )
    return True


def _remove_basis(
    sessions: sessionmaker[Session], settings: ServiceSettings, found: Garbage
) -> bool:
    """Remove a basis if it is still unused.

    A trainer needs seconds from its claim to its basis, and this check none. The pointers are
    removed first, so that a trainer fits the basis again instead of finding it missing.
    """
    folders = _folders(settings.runs_dir)
    still = find_unused_bases(settings.bases_dir, folders, _known(sessions), 0)
    if found.path not in [garbage.path for garbage in still]:
        return False
    for pointer in pointers_to(found.path):
        pointer.unlink(missing_ok=True)
    hidden = found.path.with_name(f".removed-{found.path.name}")
    try:
        found.path.rename(hidden)
    except FileNotFoundError:
        return True  # removed by another process
    remove_tree(hidden)
    return True


_REMOVERS: dict[str, Callable[[sessionmaker[Session], ServiceSettings, Garbage], bool]] = {
    "unknown run": _remove_unknown_run,
    "half-written": _remove_of_run,
    "old rolling checkpoint": _remove_rolling,
    "unused basis": _remove_basis,
}


def _known(sessions: sessionmaker[Session]) -> dict[str, KnownRun]:
    with sessions() as session:
        return known_runs(session)


def _folders(runs_dir: Path) -> list[Path]:
    if not runs_dir.is_dir():
        return []
    return sorted(path for path in runs_dir.iterdir() if path.is_dir())
