"""Removing a checkpoint in one step for every reader. Imports no torch."""

from __future__ import annotations

import shutil
from pathlib import Path

from pmae.layout import PINNED_FILE


def remove_unless_pinned(folder: Path) -> bool:
    """Remove a checkpoint, in one step for every reader.

    It is renamed before its pin is looked at, so that one that is pinned meanwhile stays.

    Returns:
        Whether it is gone.
    """
    hidden = folder.with_name(f".removed-{folder.name}")
    try:
        folder.rename(hidden)
    except FileNotFoundError:
        return True
    if (hidden / PINNED_FILE).exists():
        hidden.rename(folder)
        return False
    shutil.rmtree(hidden)
    return True
