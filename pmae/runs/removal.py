"""Removing a checkpoint in one step for every reader. Imports no torch."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from pmae.runs.layout import PINNED_FILE, RunDir

_NEEDED_BY = "needed-by-"


def remove_unless_marked(folder: Path) -> bool:
    """Remove a checkpoint, in one step for every reader.

    Returns:
        Whether it is gone.
    """
    if not hide_unless_marked(folder):
        return False
    with suppress(FileNotFoundError):  # somebody was faster
        shutil.rmtree(hidden_name(folder))
    return True


def hidden_name(folder: Path) -> Path:
    """Where a checkpoint lies while its files are removed; of no use to a reader."""
    return folder.with_name(f".removed-{folder.name}")


def hide_unless_marked(folder: Path) -> bool:
    """Take a checkpoint away from readers; its files are still to be removed.

    It is renamed before its marks are looked at, so that one that is marked meanwhile stays.

    Returns:
        Whether it is hidden, or gone already.
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
    """Whether a checkpoint is pinned, or a run that has not ended needs it."""
    return (folder / PINNED_FILE).exists() or bool(need_marks_in(folder))


def need_mark(folder: Path, run_id: str) -> Path:
    """The empty file that says that a run needs this checkpoint."""
    return folder / (_NEEDED_BY + run_id)


def needed_by(name: str) -> str | None:
    """The id of the run whose mark a file of this name is; None: it is no such mark."""
    return name.removeprefix(_NEEDED_BY) if name.startswith(_NEEDED_BY) else None


def need_marks(run: RunDir) -> list[tuple[Path, str]]:
    """Those in the kept checkpoints of a run, each with the id of the run that needs one."""
    return [
        found
        for lease in run.leases()
        for folder in lease.checkpoints.glob("step-*")
        for found in need_marks_in(folder)
    ]


def need_marks_in(folder: Path) -> list[tuple[Path, str]]:
    """Those in one checkpoint's folder."""
    return [(mark, mark.name.removeprefix(_NEEDED_BY)) for mark in folder.glob(f"{_NEEDED_BY}*")]
