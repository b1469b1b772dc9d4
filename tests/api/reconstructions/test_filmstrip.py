"""The filmstrip of a run, read without torch."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from pmae.inference.pictures import encode_png
from pmae.runs.frames import write_frame, write_reference
from pmae.schema import Filmstrip
from tests.api.live import LiveApi

PANELS = ("original", "visible", "target", "prediction", "full")


def _film(api: LiveApi, run_id: str, epochs: int) -> dict[int, dict[str, np.ndarray]]:
    """Write a film of two images; its panels by epoch."""
    lease = api.run_dir(run_id).lease(1)
    lease.path.mkdir(parents=True)
    random = np.random.default_rng(0)
    written = {}
    for epoch in range(epochs):
        pictures = {name: random.integers(0, 256, (2, 4, 4, 3), np.uint8) for name in PANELS}
        if epoch == 0:
            write_reference(lease, pictures, ["three", "five"])
        write_frame(lease, epoch * 10, epoch, pictures)
        written[epoch] = pictures
    return written


def test_the_frames_of_an_image(api: LiveApi) -> None:
    run_id = api.add_run(state="running").id
    written = _film(api, run_id, 3)
    answer = api.client.get(f"/runs/{run_id}/filmstrip", params={"image": 1})
    film = Filmstrip.model_validate_json(answer.content)
    assert (film.label, film.num_images, film.total) == ("five", 2, 3)
    assert [(frame.step, frame.epoch) for frame in film.frames] == [(0, 0), (10, 1), (20, 2)]
    assert base64.b64decode(film.original) == encode_png(written[0]["original"][1])
    for frame in film.frames:
        assert base64.b64decode(frame.full) == encode_png(written[frame.epoch]["full"][1])


def test_fewer_frames_hold_both_ends(api: LiveApi) -> None:
    run_id = api.add_run(state="running").id
    _film(api, run_id, 9)
    answer = api.client.get(f"/runs/{run_id}/filmstrip", params={"max_frames": 3})
    film = Filmstrip.model_validate_json(answer.content)
    assert film.total == 9
    assert [frame.epoch for frame in film.frames] == [0, 4, 8]


def test_one_sheet(api: LiveApi) -> None:
    run_id = api.add_run(state="running").id
    _film(api, run_id, 2)
    answer = api.client.get(f"/runs/{run_id}/filmstrip", params={"format": "png"})
    assert answer.headers["content-type"] == "image/png"
    width, height = Image.open(io.BytesIO(answer.content)).size
    assert width > 5 * 96
    assert height > 2 * 96


def test_what_is_not_there(api: LiveApi) -> None:
    run_id = api.add_run(state="queued").id
    answer = api.client.get(f"/runs/{run_id}/filmstrip")
    assert (answer.status_code, answer.json()["code"]) == (404, "filmstrip_not_ready")
    _film(api, run_id, 1)
    answer = api.client.get(f"/runs/{run_id}/filmstrip", params={"image": 2})
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["pointer"] == "image"
    path = api.run_dir(run_id).lease(1).filmstrip / "step-00000000.npz"
    path.write_bytes(path.read_bytes()[:50])
    answer = api.client.get(f"/runs/{run_id}/filmstrip")
    assert answer.json()["code"] == "artifact_damaged"
