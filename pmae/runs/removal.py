"""Atomic removal of checkpoints, and the marks that prevent it. Imports no torch."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from pmae.runs.layout import PINNED_FILE, RunDir

_NEEDED_BY = "needed-by-"


def remove_unless_marked(folder: Path) -> bool:
    """Remove a checkpoint atomically, unless it is marked.

    Returns:
        True if it is gone.
    """
    if not hide_unless_marked(folder):
        return False
    with suppress(FileNotFoundError):  # another process removed it first
        shutil.rmtree(hidden_name(folder))
    return True


def hidden_name(folder: Path) -> Path:
    """Return the path of a checkpoint while its files are removed, which readers ignore."""
    return folder.with_name(f".removed-{folder.name}")


def hide_unless_marked(folder: Path) -> bool:
    """Hide a checkpoint from readers; its files are still to be removed.

    Marks are checked again after the rename, so that a checkpoint marked meanwhile stays.

    Returns:
        True if it is hidden, or was gone already.
    """
    hidden = hidden_name(folder)
    try:
        if is_marked(folder):
            return False
        folder.rename(hidden)
    except FileNotFoundError:
        return True
    if is_marked(hidden):
        hidden.rename(folder)
        return False
    return True


def is_marked(folder: Path) -> bool:
    """Return True if a checkpoint is pinned, or an unfinished run needs it."""
    return (folder / PINNED_FILE).exists() or bool(need_marks_in(folder))


def need_mark(folder: Path, run_id: str) -> Path:
    """Return the path of the mark, an empty file, of a run that needs this checkpoint."""
    return folder / (_NEEDED_BY + run_id)


def needed_by(name: str) -> str | None:
    """Parse the run's id from the name of its mark; None for other files."""
    return name.removeprefix(_NEEDED_BY) if name.startswith(_NEEDED_BY) else None


def need_marks(run: RunDir) -> list[tuple[Path, str]]:
    """List the marks in a run's kept checkpoints, each with the id of the run that needs it."""
    return [
        found
        for lease in run.leases()
        for folder in lease.checkpoints.glob("step-*")
        for found in need_marks_in(folder)
    ]


def need_marks_in(folder: Path) -> list[tuple[Path, str]]:
    """List the marks in one checkpoint's folder, each with the id of the run that needs it."""
    return [(mark, mark.name.removeprefix(_NEEDED_BY)) for mark in folder.glob(f"{_NEEDED_BY}*")]
