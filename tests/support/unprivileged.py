"""Processes that may not read everything, and data roots with what they may not read."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.pmae.data.formats import random_pixels, write_image

_STRANGER = 12_345
"""Owns what root makes unreadable; need not exist."""
_SCRIPT = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH; 24 is PR_CAPBSET_DROP
    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
os.execvp(sys.argv[1], sys.argv[1:])
"""


def unprivileged(command: Sequence[str]) -> list[str]:
    """The command, without the right of root to read what belongs to others.

    Another user could not start it where Python itself lies in root's home.
    """
    return [sys.executable, "-c", _SCRIPT, *command]


def close(path: Path) -> None:
    """Take the right to read ``path`` from every process but those of another user."""
    if os.geteuid() == 0:
        os.chown(path, _STRANGER, _STRANGER)
        path.chmod(0o700)
    else:
        path.chmod(0)


def open_again(root: Path) -> None:
    """Let who made ``root`` remove it."""
    for folder, folders, _ in os.walk(root):
        for name in folders:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o700)


def write_birds(folder: Path, *, count: int = 10) -> None:
    """A data set of two classes with ``count`` images of each."""
    for number, kind in enumerate(("robin", "wren")):
        for image in range(count):
            write_image(folder / kind / f"{image}.png", random_pixels(8, 8, seed=number))


def write_data_root(root: Path) -> None:
    """What a lab's disk holds besides data sets."""
    write_birds(root / "birds")
    write_birds(root / "private")
    close(root / "private")
    write_birds(root / "partly")
    close(root / "partly" / "wren")
    write_birds(root / "one_image")
    close(root / "one_image" / "wren" / "3.png")
    (root / "locked.npz").touch()
    close(root / "locked.npz")
    (root / "notes.txt").touch()
    close(root / "notes.txt")
    (root / "lost+found").mkdir()
    close(root / "lost+found")
    write_birds(root / "my data")
    write_birds(root / ".hidden")
    write_birds(root / os.fsdecode(b"caf\xe9"))
    (root / "moved").symlink_to(root / "nowhere")
    (root / "cifar-10-batches-py").mkdir()
    close(root / "cifar-10-batches-py")
    (root / "empty").mkdir()


USABLE = {"folder:birds", "folder:partly", "folder:one_image"}
"""As far as a list can tell; the last two are not all readable."""
UNUSABLE = {
    "folder:private": "cannot be read by user",
    "npz:locked": "cannot be read by user",
    "folder:moved": "is a link to",
    "folder:my data": "cannot be named in a spec",
    r"folder:caf\xe9": "cannot be named in a spec",
}
"""A part of what a list says of each."""
