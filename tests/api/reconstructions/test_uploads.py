"""Reconstructions of uploaded images, with checkpoints whose data set is not on this machine."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pmae.client import ApiError, PmaeClient
from pmae.client.checkpoints import uploads_refused
from pmae.data.registry import open_data
from pmae.schema import Reconstruction, ReconstructionRequest
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, MaskingSpec, resolve
from tests.api.live import LiveApi
from tests.api.trained import TINY_MODEL, adopt, train
from tests.pmae.data.formats import random_pixels
from tests.pmae.data.test_untrusted import ORIENTATION, file, png_that_says, smooth

MEGABYTE = 1_000_000
SPEC = resolve(
    ExperimentSpec.model_validate(
        {
            "dataset": {"name": "folder:photos", "resolution": 16},
            "model": TINY_MODEL | {"patch_size": 4},
            "epochs": 1,
            "batch_size": 16,
            "evaluations": [],
        }
    )
)
DAMAGED = file(Image.fromarray(random_pixels(60, 90, 3)), "JPEG")[:900]
NO_IMAGES = {
    "a bomb": (png_that_says(60_000, 60_000), "50,000,000 pixels"),
    "a truncated JPEG": (DAMAGED, "it is broken"),
    "an SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "expected PNG, JPEG"),
    "a page": (b"<!doctype html><script>alert(1)</script>", "expected PNG, JPEG"),
    "nothing": (b"", "it is empty"),
    "32-bit numbers": (file(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), "8 or 16 bits"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on oblong photographs, trained by the real trainer; its folder."""
    home = tmp_path_factory.mktemp("photos")
    for number in range(40):
        folder = home / "data" / "photos" / ("day" if number % 2 else "night")
        folder.mkdir(parents=True, exist_ok=True)
        suffix, height, width = ("png", "jpg", "webp")[number % 3], 40 + number, 90 - number
        pixels = smooth(height, width) // 2 + random_pixels(height, width, 3, seed=number) // 2
        Image.fromarray(pixels).save(folder / f"{number:02d}.{suffix}")
    return train(home, SPEC)


@pytest.fixture
def checkpoint(api: LiveApi, trained: Path) -> str:
    """The checkpoint, without its data set, in the service's home and database; its id."""
    return adopt(api, trained, SPEC)


def in_base64(files: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(data).decode() for data in files]


def post(
    api: LiveApi, checkpoint: str, uploaded: Sequence[str], form: str = "json", **body: Any
) -> httpx.Response:
    return api.client.post(
        f"/checkpoints/{checkpoint}/reconstructions",
        params={"format": form},
        json={"images": {"uploaded": list(uploaded)}} | body,
    )


def found(response: httpx.Response) -> Reconstruction:
    assert response.status_code == 200, response.text
    return Reconstruction.model_validate_json(response.content)


@pytest.mark.parametrize(
    "mask",
    [
        {},
        {"masking": {"strategy": "top", "ratio": 0.5}},
        {"masking": {"ratio": [0.2, 0.7], "scope": "image"}, "seed": 3},
        {"components": [[0, 9], 12]},
    ],
)
def test_an_uploaded_file_of_the_data_set_is_what_the_data_set_makes_of_it(
    api: LiveApi, checkpoint: str, trained: Path, mask: dict[str, Any]
) -> None:
    home = trained.parents[2]
    val = open_data(SPEC.dataset, StorageSettings(home=home)).val
    paths = [val.files.path(name) for name in val.files.names]  # type: ignore[attr-defined]
    indices = list(range(len(paths)))
    assert {path.suffix for path in paths} > {".png"}
    ours = found(post(api, checkpoint, in_base64([p.read_bytes() for p in paths]), **mask))
    ours_png = post(api, checkpoint, in_base64([p.read_bytes() for p in paths]), "png", **mask)
    shutil.copytree(home / "data", api.settings.home / "data")
    url = f"/checkpoints/{checkpoint}/reconstructions"
    body = {"images": {"split": "val", "indices": indices}} | mask
    theirs = found(api.client.post(url, json=body))
    assert [image.label for image in ours.images] == [None] * len(indices)
    assert {image.label for image in theirs.images} <= {"day", "night"}
    assert [image.index for image in ours.images] == indices
    unlabelled = [image.model_copy(update={"label": None}) for image in theirs.images]
    assert ours.images == unlabelled
    assert ours.residuals == theirs.residuals
    assert ours == theirs.model_copy(update={"images": ours.images})
    sheet = api.client.post(url, json=body, params={"format": "png"})
    assert ours_png.headers["content-type"] == "image/png"
    assert ours_png.content == sheet.content


def test_the_data_set_need_not_be_there(api: LiveApi, checkpoint: str) -> None:
    url = f"/checkpoints/{checkpoint}/reconstructions"
    missing = api.client.post(url)
    assert (missing.status_code, missing.json()["code"]) == (409, "checkpoint_unusable")
    assert "photos" in missing.json()["detail"]
    images = in_base64([file(Image.fromarray(smooth(50, 70)))])
    assert len(found(post(api, checkpoint, images)).images) == 1


def test_every_kind_of_image(api: LiveApi, checkpoint: str) -> None:
    photo = Image.fromarray(smooth(64, 96))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    files = [
        file(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        file(Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) << 8)),
        file(Image.new("RGBA", (30, 30), (0, 0, 0, 0))),
        file(photo.convert("CMYK"), "JPEG"),
        file(photo, "JPEG", exif=exif),
        file(photo.convert("P")),
        file(photo.convert("1")),
        file(photo.convert("L"), "BMP"),
    ]
    wrapped = [base64.encodebytes(data).decode() for data in files]
    assert "\n" in wrapped[0].strip(), "as command-line tools write it"
    result = found(post(api, checkpoint, wrapped))
    assert [image.index for image in result.images] == list(range(len(files)))
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(image.panels["original"]))))
        for image in result.images
    ]
    assert all(pixels.shape == (16, 16, 3) for pixels in shown)
    assert shown[0][8, 8].tolist() == [255, 0, 0]
    assert (shown[2] == 255).all()
    upright = photo.rotate(-90, expand=True)
    plain = found(post(api, checkpoint, in_base64([file(upright, "JPEG")]))).images[0]
    expected = np.asarray(Image.open(io.BytesIO(base64.b64decode(plain.panels["original"]))))
    assert np.abs(shown[4].astype(int) - expected).max() <= 8


def test_what_cannot_be_used_is_told_for_each_image(
    api: LiveApi, checkpoint: str, subtests: pytest.Subtests
) -> None:
    good = in_base64([file(Image.fromarray(smooth(20, 20)))])
    for name, (data, valid) in NO_IMAGES.items():
        with subtests.test(name=name):
            refused = post(api, checkpoint, [*good, *good, *in_base64([data])])
            assert refused.status_code == 422, refused.text
            assert refused.headers["content-type"] == "application/problem+json"
            (error,) = refused.json()["errors"]
            assert error["pointer"] == "/images/uploaded/2"
            assert valid in error["message"]
    for text in ("%%%", "a", good[0][:-3] + "é", "data:image/png;base64," + good[0]):
        with subtests.test(text=text[:30]):
            (error,) = post(api, checkpoint, [text]).json()["errors"]
            assert error["pointer"] == "/images/uploaded/0"
            assert "it is not base64" in error["message"]
    several = post(api, checkpoint, ["", *good, "%"]).json()
    assert [e["pointer"] for e in several["errors"]] == [
        "/images/uploaded/0",
        "/images/uploaded/2",
    ]
    assert post(api, checkpoint, good).status_code == 200, "the service goes on"


def test_images_are_of_one_kind(api: LiveApi, checkpoint: str, subtests: pytest.Subtests) -> None:
    png = in_base64([file(Image.fromarray(smooth(20, 20)))])
    cases: list[tuple[object, str, str]] = [
        ({"uploaded": []}, "/images/uploaded", "at least 1 value"),
        ({"uploaded": png * 33}, "/images/uploaded", "at most 32 values"),
        ({"uploaded": png[0]}, "/images/uploaded", "expected a list"),
        ({"uploaded": [*png, 5]}, "/images/uploaded/1", "expected text"),
        ({"uploaded": png, "split": "val"}, "/images", "expected either uploaded"),
        ({"uploaded": png, "indices": [0]}, "/images", "expected either uploaded"),
        ({"uploads": png}, "/images/uploads", "did you mean 'uploaded'"),
        ({"splt": "val"}, "/images/splt", "did you mean 'split'"),
        (png, "/images", "expected an object"),
    ]
    for images, field, valid in cases:
        with subtests.test(images=str(images)[:60]):
            url = f"/checkpoints/{checkpoint}/reconstructions"
            response = api.client.post(url, json={"images": images})
            assert response.status_code == 422, response.text
            (error,) = response.json()["errors"]
            assert error["pointer"] == field
            assert valid in error["message"]


def test_32_images_at_once(api: LiveApi, checkpoint: str) -> None:
    png = in_base64([file(Image.fromarray(smooth(20, 20)))])
    result = found(post(api, checkpoint, png * 32))
    assert [image.index for image in result.images] == list(range(32))
    assert len({image.panels["original"] for image in result.images}) == 1


def test_masks_of_objects_are_not_known(api: LiveApi, trained: Path) -> None:
    png = in_base64([file(Image.fromarray(smooth(20, 20)))])
    checkpoint = adopt(api, trained, SPEC)
    refused = post(api, checkpoint, png, masking={"strategy": "segmentation"})
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["pointer"] == "/masking/strategy"
    refused = post(api, checkpoint, png, components=[10**6])
    (error,) = refused.json()["errors"]
    assert error["pointer"] == "/components"


def test_photographs_fit_into_a_body_and_more_does_not(api: LiveApi, checkpoint: str) -> None:
    noise = random_pixels(1400, 1400, 3)
    big = file(Image.fromarray(noise))
    assert 5 * MEGABYTE < len(big) < 6 * MEGABYTE
    assert len(found(post(api, checkpoint, in_base64([big] * 3))).images) == 3
    refused = post(api, checkpoint, in_base64([big] * 5))
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert "33,554,432 bytes" in refused.json()["detail"]
    assert refused.headers["content-type"] == "application/problem+json"
    for other in ("/runs", f"/checkpoints/{checkpoint}/evaluations"):
        refused = api.client.post(other, json={"images": in_base64([big])})
        assert refused.status_code == 413
        assert "1,048,576 bytes" in refused.json()["detail"]


def test_the_client_sends_files(api: LiveApi, checkpoint: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(smooth(50, 70)).save(path)
    request = ReconstructionRequest(masking=MaskingSpec(ratio=0.4), seed=3)
    with PmaeClient(api.url) as client:
        result = client.reconstruct(checkpoint, request, uploads=[path, path.read_bytes()])
        assert [image.index for image in result.images] == [0, 1]
        assert result.images[0].panels == result.images[1].panels
        sheet = client.reconstruct_png(checkpoint, request, uploads=[str(path)])
        assert sheet.startswith(b"\x89PNG")
        with pytest.raises(ApiError) as caught:
            client.reconstruct(checkpoint, uploads=[path, b"<svg/>"])
    (place,) = uploads_refused(caught.value.problem)
    assert place == 1


def test_the_examples_of_the_document_work(api: LiveApi, checkpoint: str) -> None:
    schemas = api.client.get("/openapi.json").json()["components"]["schemas"]
    (own,) = [
        example
        for example in schemas["ReconstructionRequest"]["examples"]
        if "uploaded" in example.get("images", {})
    ]
    (files,) = schemas["UploadedImages"]["properties"]["uploaded"]["examples"]
    assert own["images"]["uploaded"] == files
    assert len(found(post(api, checkpoint, files, masking=own["masking"])).images) == 1
