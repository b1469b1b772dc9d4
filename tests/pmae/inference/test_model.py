"""``pmae.load``: a trained model on any images, without its service."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pmae
from pmae.data.registry import load_data
from pmae.errors import BasisError, CheckpointError, ImageError, SpecError
from pmae.evaluate.features import extract
from pmae.inference.checkpoint import LoadedCheckpoint
from pmae.inference.model import LoadedModel, MaskOptions
from pmae.masking import selection_of
from pmae.runs.events import EventWriter
from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec, ExperimentSpec, MaskingSpec
from pmae.spec.parts.evaluation import Pooling
from pmae.training.process.signals import StopSignal
from pmae.training.run import run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
]
RUN_ID = "0123456789ab"
FINAL = "step-00000012"


@pytest.fixture
def trained(storage: StorageSettings, tiny_spec: ExperimentSpec) -> Iterator[RunDir]:
    """A run of two epochs in the service's place."""
    handler = signal.getsignal(signal.SIGTERM)
    run_dir = RunDir(storage.runs_dir / RUN_ID)
    lease = run_dir.lease(1)
    lease.path.mkdir(parents=True)
    events = EventWriter(lease.events)
    model = tiny_spec.model.model_copy(update={"depth": 2})
    spec = tiny_spec.model_copy(update={"epochs": 2, "evaluations": (), "model": model})
    run(run_dir, lease, spec, storage, events, StopSignal())
    events.close()
    yield run_dir
    signal.signal(signal.SIGTERM, handler)


def test_it_encodes_as_the_probe_does(trained: RunDir, storage: StorageSettings) -> None:
    loaded = pmae.load(RUN_ID, storage)
    val = load_data(loaded.spec.dataset, storage).val
    images = val.take(torch.arange(7)).images
    features = loaded.encode(images, batch_size=3)
    assert features.shape == (7, 16)
    expected = extract(loaded.model.encoder, val, loaded.statistics, "cls", "last")
    torch.testing.assert_close(features, expected.values[0, :7])
    as_floats = loaded.encode(images.numpy().astype(np.float32) / 255)
    torch.testing.assert_close(as_floats, features)
    assert loaded.class_names == tuple(str(digit) for digit in range(10))
    by_id = f"{RUN_ID}-{FINAL.removeprefix('step-')}"
    for reference in (f"{RUN_ID}/{FINAL}", by_id, trained.path, str(loaded.folder)):
        assert torch.equal(pmae.load(reference, storage).encode(images), loaded.encode(images))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_any_layer_is_what_an_evaluation_sees_of_it(
    trained: RunDir, storage: StorageSettings, pooling: Pooling
) -> None:
    loaded = pmae.load(RUN_ID, storage)
    val = load_data(loaded.spec.dataset, storage).val
    images = val.take(torch.arange(7)).images
    expected = extract(loaded.model.encoder, val, loaded.statistics, pooling, "all").values[:, :7]
    depth = len(expected)
    assert depth > 1
    for layer in range(1, depth + 1):
        found = loaded.encode(images, features=pooling, layer=layer, batch_size=3)
        torch.testing.assert_close(found, expected[layer - 1])
        tokens = loaded.encode(images, features="tokens", layer=layer, batch_size=2)
        assert tokens.shape == (7, 1 + loaded.model.encoder.num_patches, found.shape[1])
        reduced = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1)
        torch.testing.assert_close(reduced, found)
    torch.testing.assert_close(loaded.encode(images, features=pooling), expected[-1])
    for layer in (0, -1, depth + 1):
        with pytest.raises(ValueError, match=f"expected 1 to {depth}"):
            loaded.encode(images, layer=layer)
    with pytest.raises(ValueError, match="cls, mean or tokens"):
        loaded.encode(images, features="max")  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_does(trained: RunDir, storage: StorageSettings) -> None:
    loaded = pmae.load(RUN_ID, storage)
    images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    features, (parts, losses) = loaded.encode(images), loaded.reconstruct(images, seed=3)
    there = pmae.load(RUN_ID, storage, device="cuda")
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.encode(images), features, atol=1e-3, rtol=1e-3)
    again, same_losses = there.reconstruct(images, seed=3)
    assert torch.equal(again.masked, parts.masked)
    torch.testing.assert_close(same_losses, losses, atol=1e-3, rtol=1e-3)
    assert loaded.encode(images.cuda(), device="cuda").device.type == "cpu"
    assert loaded.device.type == "cuda"


def test_the_mask_that_was_drawn_can_be_used_again(
    trained: RunDir, storage: StorageSettings, tmp_path: Path
) -> None:
    by_components = pmae.load(RUN_ID, storage)
    by_patches = pmae.load(_mae_like(by_components, tmp_path), storage)
    images = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    for model in (by_components, by_patches):
        field = model.method.parts_name
        parts, losses = model.reconstruct(images, masking=MaskingSpec(scope="image"), seed=4)
        assert parts.masked.shape == (3, model.method.num_total)
        assert not torch.equal(parts.masked[0], parts.masked[1])
        for row in range(3):
            selection = selection_of(parts.masked[row])
            given: MaskOptions = (
                {"components": selection} if field == "components" else {"patches": selection}
            )
            again, loss = model.reconstruct(images[row : row + 1], **given)
            assert torch.equal(again.masked[0], parts.masked[row])
            torch.testing.assert_close(again.prediction[0], parts.prediction[row])
            torch.testing.assert_close(loss[0], losses[row])


def test_it_reconstructs_as_the_service_does(trained: RunDir, storage: StorageSettings) -> None:
    loaded = pmae.load(trained.path, storage)
    images = load_data(loaded.spec.dataset, storage).val.take(torch.arange(3)).images
    parts, losses = loaded.reconstruct(images, masking=MaskingSpec(ratio=0.4), seed=5)
    service = LoadedCheckpoint.load(loaded.folder, storage).reconstruct(
        split="val", indices=[0, 1, 2], masking=MaskingSpec(ratio=0.4), seed=5
    )
    assert losses.tolist() == pytest.approx(service.masked_error, rel=1e-5)
    torch.testing.assert_close(parts.visible + parts.target, parts.original)


def test_any_image_can_be_read(loaded: LoadedModel, tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    path = tmp_path / "image.png"
    image.save(path)
    images = loaded.read_images([path, str(path), path.read_bytes(), image])
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (4, 1, 8, 8))
    assert all(torch.equal(one[0], torch.arange(64).reshape(8, 8)) for one in images)
    pictures = loaded.picture(images, masking=MaskingSpec(ratio=0.4), seed=5)
    assert pictures.labels is None
    assert pictures.panels["original"].shape == (4, 8, 8, 3)
    losses = loaded.reconstruct(images, masking=MaskingSpec(ratio=0.4), seed=5)[1]
    assert losses.tolist() == pictures.masked_error
    given = loaded.picture(images, components=[(0, 3)])
    assert given.mean_squares.per_part()[0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ImageError, match=r"nothing\.png: it cannot be read"):
        loaded.read_images([image, tmp_path / "nothing.png"])
    with pytest.raises(ImageError, match="image 1: it is empty"):
        loaded.read_images([image, b""])


def test_masking_by_objects_needs_a_data_sets_images(
    loaded: LoadedModel, storage: StorageSettings, tmp_path: Path
) -> None:
    spec = loaded.spec.model_copy(
        update={
            "method": "mae",
            "basis": None,
            "dataset": DatasetSpec(name="clevr", resolution=8),
            "masking": MaskingSpec(strategy="segmentation"),
        }
    )
    by_objects = pmae.load(_mae_like(loaded, tmp_path, spec), storage)
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(SpecError, match="segmentation needs object masks") as caught:
        by_objects.reconstruct(images)
    assert caught.value.field == ("masking", "strategy")
    assert by_objects.picture(images, patches=[0, 1]).num_masked == 2


def test_a_downloaded_checkpoint_encodes_without_its_basis(
    trained: RunDir, storage: StorageSettings, tmp_path: Path
) -> None:
    here = pmae.load(trained.path, storage)
    folder = tmp_path / "downloaded"
    shutil.copytree(here.folder, folder)
    elsewhere = StorageSettings(home=tmp_path / "nowhere")
    loaded = pmae.load(folder, elsewhere)
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert torch.equal(loaded.encode(images), here.encode(images))
    digest = here.config.basis_digest
    assert digest is not None
    with pytest.raises(BasisError, match=f"basis {digest}.*--all"):
        loaded.reconstruct(images)
    shutil.copytree(storage.bases_dir / digest, folder / "bases" / digest)
    ours, theirs = loaded.reconstruct(images)[1], here.reconstruct(images)[1]
    assert torch.equal(ours, theirs)


@pytest.fixture
def loaded(trained: RunDir, storage: StorageSettings) -> LoadedModel:
    return pmae.load(trained.path, storage)


def test_what_cannot_be_used_is_refused_with_what_would_be(
    loaded: LoadedModel, storage: StorageSettings, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"\(2, 8, 8\); expected \(n, 1, 8, 8\)"):
        loaded.encode(torch.zeros(2, 8, 8))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        loaded.encode(torch.full((1, 1, 8, 8), 2.0))
    with pytest.raises(ValueError, match="int64; expected uint8"):
        loaded.encode(torch.zeros(1, 1, 8, 8, dtype=torch.int64))
    with pytest.raises(SpecError):
        pmae.load(_mae_like(loaded, tmp_path), storage).reconstruct(
            torch.zeros(1, 1, 8, 8), masking=MaskingSpec(scope="batch")
        )
    with pytest.raises(CheckpointError, match="there is no checkpoint nothing"):
        pmae.load("nothing", storage)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        pmae.load("../../etc/step-00000001", storage)


def _mae_like(loaded: LoadedModel, folder: Path, spec: ExperimentSpec | None = None) -> Path:
    """The same weights as a checkpoint of an MAE run."""
    from pmae.runs.checkpoints import TrainingState, read_weights, write_checkpoint
    from pmae.runs.layout import LeaseDir

    spec = spec or loaded.spec.model_copy(
        update={"method": "mae", "basis": None, "masking": MaskingSpec(ratio=0.5, scope="image")}
    )
    config = loaded.config.model_copy(update={"spec": spec, "basis_digest": None})
    manifest = write_checkpoint(
        LeaseDir(folder / "lease-0001", 1),
        kind="kept",
        step=1,
        epoch=1.0,
        state=TrainingState(read_weights(loaded.folder), {}, {}),
        config=config,
        events=b"",
        metrics={},
    )
    return folder / "lease-0001" / "checkpoints" / manifest.name


def test_importing_the_package_loads_no_torch() -> None:
    script = "import sys, pmae; sys.exit('torch' in sys.modules or not callable(pmae.load))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
