"""Reconstructions with a checkpoint that the real trainer made."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from api.http.errors import BusyError
from api.reconstructions.pool import Reconstructor
from api.settings import ApiSettings
from pmae.cli.app import app
from pmae.schema import ImageChoice, Reconstruction, ReconstructionRequest
from pmae.spec import ExperimentSpec, MaskingSpec, resolve
from tests.api.live import LiveApi
from tests.api.trained import TINY_MODEL, adopt, train

SPEC = resolve(
    ExperimentSpec.model_validate(
        {
            "dataset": {"name": "digits", "max_train_images": 200},
            "model": TINY_MODEL,
            "epochs": 1,
            "batch_size": 100,
            "evaluations": [],
        }
    )
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that the real trainer trained."""
    return train(tmp_path_factory.mktemp("trained"), SPEC)


@pytest.fixture
def checkpoint(api: LiveApi, trained: Path) -> str:
    """The checkpoint in the service's home and database; its id."""
    return adopt(api, trained, SPEC)


def panels(reconstruction: Reconstruction, image: int) -> dict[str, np.ndarray]:
    decoded = reconstruction.images[image].panels.items()
    return {
        name: np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for name, png in decoded
    }


def test_images_under_a_mask(api: LiveApi, checkpoint: str) -> None:
    request = ReconstructionRequest(
        images=ImageChoice(split="test", indices=[3, 5]),
        masking=MaskingSpec(ratio=0.4, count="nearest"),
        seed=7,
    )
    url = f"/checkpoints/{checkpoint}/reconstructions"
    response = api.client.post(url, json=request.model_dump(mode="json"))
    assert response.status_code == 200, response.text
    found = Reconstruction.model_validate_json(response.content)
    assert found.checkpoint_id == checkpoint
    assert (found.method, found.ratio, found.num_total) == ("pmae", 0.4, 64)
    assert found.masked_share == pytest.approx(0.4, abs=0.1)
    assert [image.index for image in found.images] == [3, 5]
    shown = panels(found, 0)
    assert set(shown) == {"original", "visible", "target", "prediction", "full", "error"}
    assert all(panel.shape == (8, 8, 3) for panel in shown.values())
    assert not np.array_equal(shown["original"], panels(found, 1)["original"])

    again = Reconstruction.model_validate_json(
        api.client.post(url, json=request.model_dump(mode="json")).content
    )
    assert again == found, "the seed decides the mask"
    sheet = api.client.post(url, json=request.model_dump(mode="json"), params={"format": "png"})
    assert sheet.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(sheet.content)).width > 6 * 8
    default = Reconstruction.model_validate_json(api.client.post(url).content)
    assert len(default.images) == 8
    assert default.ratio == 0.2, "as it was trained"


def test_what_cannot_be_reconstructed(
    api: LiveApi, checkpoint: str, subtests: pytest.Subtests
) -> None:
    url = f"/checkpoints/{checkpoint}/reconstructions"
    cases: list[tuple[dict[str, object], str, str]] = [
        ({"images": {"indices": [100_000]}}, "/images/indices", "100000"),
        ({"images": {"indices": []}}, "/images/indices", "at least 1"),
        ({"images": {"split": "all"}}, "/images/split", "'train', 'val' or 'test'"),
        ({"masking": {"ratio": 1.5}}, "/masking/ratio", "above 0 and below 1"),
        ({"masking": {"ratios": 0.5}}, "/masking/ratios", "did you mean 'ratio'"),
        ({"sed": 1}, "/sed", "did you mean 'seed'"),
        ({"seed": -1}, "/seed", "greater than or equal to 0"),
        ({"masking": {"strategy": "segmentation"}}, "/masking/strategy", "random, top, bottom"),
        ({"masking": {"strategy": "tip"}}, "/masking/strategy", "'random', 'top', 'bottom'"),
        ({"masking": {"strategy": "top", "scope": "image"}}, "/masking/scope", "a range of ratios"),
        ({"components": [3, 64]}, "/components", "64 is not among the 64 components"),
        ({"components": [[0, 10**12]]}, "/components", "numbers from 0 to 63"),
        ({"components": [[0, 63]]}, "/components", "expected 1 to 63"),
        ({"components": []}, "/components", "at least 1 value"),
        ({"components": [[5, 2]]}, "/components", "first <= last"),
        ({"components": [-1]}, "/components/0", "greater than or equal to 0"),
        ({"components": ["a"]}, "/components/0", "valid integer"),
        ({"components": [1], "masking": {"ratio": 0.5}}, "/components", "one of the two"),
        ({"components": [1], "patches": [1]}, "/patches", "one of the two"),
        ({"patches": [1]}, "/patches", "masks components"),
    ]
    for body, field, valid in cases:
        with subtests.test(body=body):
            response = api.client.post(url, json=body)
            assert response.status_code == 422, response.text
            (error,) = response.json()["errors"]
            assert error["pointer"] == field
            assert valid in error["message"]
    assert api.client.post(url, params={"format": "gif"}).status_code == 422


@pytest.mark.parametrize("strategy", ["top", "bottom", "block", "random"])
def test_any_strategy_whatever_it_was_trained_with(
    api: LiveApi, checkpoint: str, strategy: str
) -> None:
    request = ReconstructionRequest(
        images=ImageChoice(indices=[0, 1, 2]),
        masking=MaskingSpec(strategy=strategy, ratio=0.5, count="nearest"),
    )
    response = api.client.post(
        f"/checkpoints/{checkpoint}/reconstructions", json=request.model_dump(mode="json")
    )
    assert response.status_code == 200, response.text
    found = Reconstruction.model_validate_json(response.content)
    assert found.masked_share == pytest.approx(0.5, abs=0.06)
    masked = found.residuals.index
    assert len(masked) == found.num_masked
    assert masked == sorted(set(masked))
    if strategy != "random":
        assert masked == list(range(masked[0], masked[-1] + 1))
    if strategy in ("top", "bottom"):
        assert masked[0 if strategy == "top" else -1] == (0 if strategy == "top" else 63)


def test_exactly_the_components_that_are_named(api: LiveApi, checkpoint: str) -> None:
    url = f"/checkpoints/{checkpoint}/reconstructions"
    body = {"images": {"indices": [0, 4]}, "components": [[0, 2], 9, [1, 3]], "seed": 1}
    response = api.client.post(url, json=body)
    assert response.status_code == 200, response.text
    found = Reconstruction.model_validate_json(response.content)
    assert found.residuals.index == [0, 1, 2, 3, 9]
    assert (found.num_masked, found.ratio) == (5, None)
    assert min(found.residuals.residual) > 0
    errors = [image.masked_error for image in found.images]
    assert np.mean(found.residuals.residual) == pytest.approx(np.mean(errors), rel=1e-3)
    spectrum = found.residuals.target
    assert len(spectrum) == 5
    left = sum(found.residuals.residual) / sum(spectrum)
    assert found.explained_variance is not None
    assert found.explained_variance == pytest.approx(1 - left, rel=1e-3)
    assert list(found.explained_variance_by_band) == ["0_50", "50_80"]
    shares = [image.explained_variance or 0.0 for image in found.images]
    assert min(shares) < found.explained_variance < max(shares)
    other_seed = Reconstruction.model_validate_json(
        api.client.post(url, json=body | {"seed": 2}).content
    )
    assert other_seed.images == found.images, "nothing is drawn"
    sheet = api.client.post(url, json=body, params={"format": "png"})
    assert sheet.headers["content-type"] == "image/png"
    drawn = api.client.post(url, json={"images": body["images"]}, params={"format": "png"})
    assert sheet.content != drawn.content


def test_the_mask_comes_back_so_that_it_can_be_sent_again(api: LiveApi, checkpoint: str) -> None:
    url = f"/checkpoints/{checkpoint}/reconstructions"

    def ask(**body: object) -> Reconstruction:
        response = api.client.post(url, json={"images": {"indices": [0, 1]}} | body)
        assert response.status_code == 200, response.text
        return Reconstruction.model_validate_json(response.content)

    drawn = ask(seed=3)
    assert drawn.masked is not None
    assert all(image.masked is None for image in drawn.images)
    again = ask(components=drawn.masked, seed=4)
    assert again.masked == drawn.masked
    assert again.images == drawn.images
    assert ask(components=[2, [0, 1], 9]).masked == [(0, 2), 9]
    own = ask(masking={"scope": "image"})
    assert own.masked is None
    first, second = (image.masked for image in own.images)
    assert first != second
    assert ask(components=second).images[1].panels == own.images[1].panels


def test_the_command_prints_the_mask(
    api: LiveApi, checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PMAE_API_URL", api.url)
    sheet, again = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    command = ["reconstruct", checkpoint, sheet, "--images", "0-1", "--seed", "3", "--mask"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    path, mask = done.output.splitlines()
    assert path == sheet
    option, written = mask.split(" ")
    assert option == "--components"
    same = ["reconstruct", checkpoint, again, "--images", "0-1", option, written]
    assert CliRunner().invoke(app, same).exit_code == 0
    assert Path(again).read_bytes() == Path(sheet).read_bytes()


def test_the_command_prints_what_is_explained(
    api: LiveApi, checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PMAE_API_URL", api.url)
    sheet = str(tmp_path / "a.png")
    command = ["reconstruct", checkpoint, sheet, "--images", "4", "--components", "0-2"]
    done = CliRunner().invoke(app, [*command, "--explained"])
    assert done.exit_code == 0, done.output
    path, whole, band, image = done.output.splitlines()
    assert path == sheet
    share = whole.removeprefix("explained variance: ")
    assert float(share.removesuffix(" %")) < 100
    assert band == f"band 0 to 50 %: {share}"
    assert image == f"image 4: {share}"


def test_a_checkpoint_that_is_gone_or_unusable(api: LiveApi, checkpoint: str) -> None:
    url = f"/checkpoints/{checkpoint}/reconstructions"
    run_dir = api.run_dir(checkpoint.partition("-")[0])
    (folder,) = run_dir.lease(1).checkpoints.iterdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    broken = api.client.post(url)
    assert (broken.status_code, broken.json()["code"]) == (409, "checkpoint_unusable")
    shutil.rmtree(folder)
    gone = api.client.post(url)
    assert (gone.status_code, gone.json()["code"]) == (404, "checkpoint_removed")
    unknown = api.client.post(f"/checkpoints/{'0' * 12}-00000001/reconstructions")
    assert unknown.status_code == 404


def test_a_rewritten_checkpoint_is_read_again(api: LiveApi, checkpoint: str) -> None:
    url = f"/checkpoints/{checkpoint}/reconstructions"
    assert api.client.post(url).status_code == 200
    run_dir = api.run_dir(checkpoint.partition("-")[0])
    (manifest,) = run_dir.lease(1).checkpoints.glob("*/manifest.json")
    content = json.loads(manifest.read_text())
    content["files"]["config.json"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    assert api.client.post(url).status_code == 409, "what was in memory is not of this manifest"


def test_a_full_queue_refuses_and_says_when_to_come_back(tmp_path: Path) -> None:
    settings = ApiSettings(home=tmp_path, reconstruction_queue=2)
    hold = threading.Event()
    with Reconstructor(settings) as reconstructor:
        held = [reconstructor._submit(hold.wait) for _ in range(2)]
        with pytest.raises(BusyError) as refused:
            reconstructor._submit(hold.wait)
        assert refused.value.headers == {"Retry-After": "2"}
        hold.set()
        assert all(future.result(timeout=60) for future in held)
        assert reconstructor._submit(lambda: 1).result(timeout=60) == 1
