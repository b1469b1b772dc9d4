"""Filmstrip of a run: reconstructions of the same masked images over the course of training.

::

    lease-0001/filmstrip/
      reference.npz        original, visible, target: (n, height, width, 3) uint8; labels: (n,) text
      step-00000000.npz    before training: prediction and full of each image, and the epoch
      step-00000640.npz    ...

Each lease writes the frames of its steps; if several wrote a step, the newest lease's frame is read
(they are equal, since a resume is exact). Imports no torch.
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
    """Frame of a run: the number of finished steps, and its file."""

    step: int
    path: Path


def frame_epochs(epochs: int) -> frozenset[int]:
    """Return the epochs with a frame: 0, the last, and log-spaced epochs between them.

    At most :data:`MOST_FRAMES` beside 0; every epoch if there are no more than that.
    """
    if epochs <= MOST_FRAMES:
        return frozenset(range(epochs + 1))
    spaced = np.geomspace(1, epochs, MOST_FRAMES)
    return frozenset({0, *np.rint(spaced).astype(int).tolist()})


def write_reference(lease: LeaseDir, panels: _Arrays, labels: list[str]) -> None:
    """Write the panels that do not change: images, visible parts and targets.

    Args:
        lease: folder of the lease that writes.
        panels: :data:`REFERENCE_PANELS`, each ``(n, height, width, 3)`` uint8.
        labels: names of the ``n`` images' classes.
    """
    lease.filmstrip.mkdir(exist_ok=True)
    chosen = {name: panels[name] for name in REFERENCE_PANELS}
    _write(lease.filmstrip / _REFERENCE, {**chosen, "labels": np.array(labels, dtype=np.str_)})


def write_frame(lease: LeaseDir, step: int, epoch: int, panels: _Arrays) -> None:
    """Write one frame: :data:`FRAME_PANELS`, each ``(n, height, width, 3)`` uint8."""
    path = lease.filmstrip / f"step-{step:08d}.npz"
    _write(path, {**{name: panels[name] for name in FRAME_PANELS}, "epoch": np.int64(epoch)})


def frames(run: RunDir) -> list[Frame]:
    """List the frames of a run, by ascending step."""
    found: dict[int, Frame] = {}
    for lease in run.leases():
        if lease.filmstrip.is_dir():
            for path in lease.filmstrip.iterdir():
                match = _FRAME.fullmatch(path.name)
                if match:
                    found[int(match[1])] = Frame(int(match[1]), path)
    return [found[step] for step in sorted(found)]


def read_reference(run: RunDir) -> dict[str, np.ndarray] | None:
    """Read the panels and labels of :func:`write_reference`; None without a filmstrip.

    Raises:
        FilmstripError: the file is damaged.
    """
    for lease in reversed(run.leases()):
        if (lease.filmstrip / _REFERENCE).is_file():
            return _read(lease.filmstrip / _REFERENCE, (*REFERENCE_PANELS, "labels"))
    return None


def read_frame(frame: Frame) -> dict[str, np.ndarray]:
    """Read the panels of a frame, and its ``epoch`` as a scalar.

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
        raise FilmstripError(f"{path} is not a filmstrip's file, or damaged: {error}") from error
