"""The filmstrip of a run: reconstructions of an image during training. Needs no torch."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from api.db.tables import RunRow
from api.http.errors import DamagedError, NotFoundError
from pmae.errors import FilmstripError
from pmae.inference.pictures import columns_png, encode_png
from pmae.runs.frames import (
    FRAME_PANELS,
    REFERENCE_PANELS,
    Frame,
    frames,
    read_frame,
    read_reference,
)
from pmae.runs.layout import RunDir
from pmae.schema import FilmFrame, Filmstrip, ProblemField


@dataclass(frozen=True)
class _Film:
    """Frames of one image; every panel is ``(height, width, 3)`` uint8."""

    num_images: int
    label: str
    reference: dict[str, np.ndarray]
    frames: list[tuple[int, int, dict[str, np.ndarray]]]
    """Step, epoch and panels."""
    total: int


def get_filmstrip(row: RunRow, run: RunDir, *, image: int, max_frames: int) -> Filmstrip:
    """Return the frames of an image with a PNG for each panel.

    Raises:
        NotFoundError: the run has no frames yet, or no such image.
        DamagedError: a file of frames is damaged.
    """
    film = _read(row, run, image, max_frames)
    return Filmstrip.model_validate(
        {
            "run_id": row.id,
            "image": image,
            "num_images": film.num_images,
            "label": film.label,
            "total": film.total,
            **_encoded(film.reference),
            "frames": [
                FilmFrame.model_validate({"step": step, "epoch": epoch, **_encoded(panels)})
                for step, epoch, panels in film.frames
            ],
        }
    )


def get_filmstrip_png(row: RunRow, run: RunDir, *, image: int, max_frames: int) -> bytes:
    """Draw the frames as one sheet: the reference's panels, then a column for each frame.

    Raises:
        NotFoundError: see :func:`get_filmstrip`.
        DamagedError: see :func:`get_filmstrip`.
    """
    film = _read(row, run, image, max_frames)
    columns = [(name, [panel]) for name, panel in film.reference.items()]
    columns += [
        (f"epoch {epoch}", [panels[name] for name in FRAME_PANELS])
        for _, epoch, panels in film.frames
    ]
    return columns_png(columns)


def _read(row: RunRow, run: RunDir, image: int, max_frames: int) -> _Film:
    try:
        reference = read_reference(run)
        if reference is None:
            raise NotFoundError(
                f"run {row.id} has no frames yet; it is {row.state}",
                code="filmstrip_not_ready",
            )
        count = len(reference["labels"])
        if image >= count:
            message = f"there is no image {image}; expected 0 to {count - 1}"
            raise NotFoundError(message, fields=[ProblemField(pointer="image", message=message)])
        every = frames(run)
        read = [(frame.step, read_frame(frame)) for frame in _spread(every, max_frames)]
    except FilmstripError as error:
        raise DamagedError(str(error)) from error
    return _Film(
        num_images=count,
        label=str(reference["labels"][image]),
        reference={name: reference[name][image] for name in REFERENCE_PANELS},
        frames=[
            (step, int(content["epoch"]), {name: content[name][image] for name in FRAME_PANELS})
            for step, content in read
        ],
        total=len(every),
    )


def _spread(every: list[Frame], max_frames: int) -> list[Frame]:
    """Choose at most ``max_frames`` evenly spaced frames, including the first and the last."""
    if len(every) <= max_frames:
        return every
    places = np.rint(np.linspace(0, len(every) - 1, max_frames)).astype(int)
    return [every[place] for place in places]


def _encoded(panels: dict[str, np.ndarray]) -> dict[str, str]:
    return {
        name: base64.b64encode(encode_png(panel)).decode("ascii") for name, panel in panels.items()
    }
