"""The filmstrip of a run: the same images under the same masks, seen again as training goes on.

::

    lease-0001/filmstrip/
      reference.npz        original, visible, target: (n, height, width, 3) uint8; labels: (n,) text
      step-00000000.npz    prediction and full of each image, and the epoch; before the first step
      step-00000640.npz    ...

Each lease writes what it trained; of a step that several wrote, the newest lease's frame counts
(they are equal, for a resume is exact). Imports no torch.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pmae.errors import FilmstripError
from pmae.runs.layout import LeaseDir, RunDir
from pmae.runtime.files import write_file

MOST_FRAMES = 100
FILM_IMAGES = 8
REFERENCE_PANELS = ("original", "visible", "target")
FRAME_PANELS = ("prediction", "full")
_REFERENCE = "reference.npz"
_FRAME = re.compile(r"step-(\d{8,12})\.npz")
_Arrays = Mapping[str, np.ndarray | np.generic]


@dataclass(frozen=True)
class Frame:
    """One frame of one run: the step after which it was taken, and its file."""

    step: int
    path: Path


def frame_epochs(epochs: int) -> frozenset[int]:
    """After which epochs a frame is taken: 0, the last, and between them ever more seldom.

    At most :data:`MOST_FRAMES` beside 0; every epoch where there are no more than these.
    """
    if epochs <= MOST_FRAMES:
        return frozenset(range(epochs + 1))
    spaced = np.geomspace(1, epochs, MOST_FRAMES)
    return frozenset({0, *np.rint(spaced).astype(int).tolist()})


def write_reference(lease: LeaseDir, panels: _Arrays, labels: list[str]) -> None:
    """Write what does not change: the images, their visible part, what is asked for.

    Args:
        lease: which writes.
        panels: :data:`REFERENCE_PANELS`, each ``(n, height, width, 3)`` uint8.
        labels: ``n`` classes in words.
    """
    lease.filmstrip.mkdir(exist_ok=True)
    chosen = {name: panels[name] for name in REFERENCE_PANELS}
    _write(lease.filmstrip / _REFERENCE, {**chosen, "labels": np.array(labels, dtype=np.str_)})


def write_frame(lease: LeaseDir, step: int, epoch: int, panels: _Arrays) -> None:
    """Write one frame: :data:`FRAME_PANELS`, each ``(n, height, width, 3)`` uint8."""
    path = lease.filmstrip / f"step-{step:08d}.npz"
    _write(path, {**{name: panels[name] for name in FRAME_PANELS}, "epoch": np.int64(epoch)})


def frames(run: RunDir) -> list[Frame]:
    """The frames of a run, by rising step."""
    found: dict[int, Frame] = {}
    for lease in run.leases():
        if lease.filmstrip.is_dir():
            for path in lease.filmstrip.iterdir():
                match = _FRAME.fullmatch(path.name)
                if match:
                    found[int(match[1])] = Frame(int(match[1]), path)
    return [found[step] for step in sorted(found)]


def read_reference(run: RunDir) -> dict[str, np.ndarray] | None:
    """What :func:`write_reference` wrote; None: nothing was filmed.

    Raises:
        FilmstripError: the file is damaged.
    """
    for lease in reversed(run.leases()):
        if (lease.filmstrip / _REFERENCE).is_file():
            return _read(lease.filmstrip / _REFERENCE, (*REFERENCE_PANELS, "labels"))
    return None


def read_frame(frame: Frame) -> dict[str, np.ndarray]:
    """The panels of a frame, and its ``epoch`` as a scalar.

    Raises:
        FilmstripError: the file is damaged.
    """
    return _read(frame.path, (*FRAME_PANELS, "epoch"))


def _write(path: Path, arrays: _Arrays) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_file(path, buffer.getvalue())


def _read(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
            return {name: content[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise FilmstripError(f"{path} is no part of a filmstrip: {error}") from error
