"""What a run reports as explained is what its last checkpoint explains."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import pmae
from pmae.data.registry import load_data
from pmae.inference.model import LoadedModel
from pmae.inference.reconstruct import reconstruct
from pmae.metrics import BAND_METRICS, METRICS
from pmae.runs.events import EventWriter, MetricsEvent, read_events
from pmae.runs.layout import RunDir
from pmae.seeding import generator
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, resolve
from pmae.training.process.signals import StopSignal
from pmae.training.run import run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
]
VARIANTS: dict[str, dict[str, Any]] = {
    "pmae": {},
    "pmae-scaled": {"loss": {"scale": "masked_variance"}, "masking": {"scope": "image"}},
    "mae": {"method": "mae", "basis": None, "masking": {}},
    "mae-norm-pix": {
        "method": "mae",
        "basis": None,
        "masking": {},
        "loss": {"norm_pix_loss": True},
    },
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    chosen: dict[str, Any] = VARIANTS[request.param]
    return chosen


@pytest.fixture
def trained(
    variant: dict[str, Any], tmp_path: Path, tiny_spec: ExperimentSpec, storage: StorageSettings
) -> RunDir:
    """Two epochs of a run."""
    fields = tiny_spec.model_dump() | {"epochs": 2, "evaluations": ()} | variant
    fields["checkpoint"]["every_epochs"] = 2
    run_dir = RunDir(tmp_path / "run")
    lease = run_dir.lease(1)
    lease.path.mkdir(parents=True)
    events = EventWriter(lease.events)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        spec = resolve(ExperimentSpec.model_validate(fields))
        run(run_dir, lease, spec, storage, events, StopSignal())
    finally:
        events.close()
        signal.signal(signal.SIGTERM, handler)
    return run_dir


def _reported(run_dir: RunDir) -> dict[str, float]:
    """The last epoch's metrics."""
    told = [e for e in read_events(run_dir.lease(1).events) if isinstance(e, MetricsEvent)]
    return {name: value for event in told for name, value in event.values.items()}


def _explained(loaded: LoadedModel, storage: StorageSettings) -> dict[str, float]:
    """The validation split's, by reconstructing it under the masks of validation."""
    spec, method = loaded.spec, loaded.method
    left = torch.zeros(len(method.bands.names), dtype=torch.float64)
    asked = torch.zeros_like(left)
    val = load_data(spec.dataset, storage).val
    for index, batch in enumerate(val.in_order(spec.batch_size)):
        images = loaded.preprocess(batch.images)
        masked = method.draw(len(images), spec.masking, generator(spec.seed, "val", index)).masked
        _, squares = reconstruct(loaded.model, method, images, masked)
        left += (squares.residual * squares.masked).sum(dim=0).double() @ method.bands.one_hot()
        asked += (squares.target * squares.masked).sum(dim=0).double() @ method.bands.one_hot()
    found = {"val_explained_variance": float(1 - left.sum() / asked.sum())}
    if len(left) > 1:
        for band, share in zip(method.bands.names, (1 - left / asked).tolist(), strict=True):
            found[f"val_explained_variance_{band}"] = share
    return found


def test_the_last_checkpoint_explains_what_was_reported(
    trained: RunDir, storage: StorageSettings
) -> None:
    reported = _reported(trained)
    assert set(reported) <= set(METRICS)
    loaded = pmae.load(trained.path, storage)
    expected = _explained(loaded, storage)
    found = {name: value for name, value in reported.items() if "val_explained" in name}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert bool(BAND_METRICS & set(found)) == (loaded.spec.method == "pmae")


def test_its_pictures_show_the_error_that_is_told(
    trained: RunDir, storage: StorageSettings
) -> None:
    """The mean square over masked pixels is that of target minus prediction, as they are drawn."""
    loaded = pmae.load(trained.path, storage)
    images = load_data(loaded.spec.dataset, storage).val.take(torch.arange(4)).images
    parts, errors = loaded.reconstruct(images, seed=3)
    squares = (parts.prediction - parts.target).square().flatten(1).sum(dim=1)
    values_of_part = 1 if loaded.spec.method == "pmae" else loaded.spec.patch_size**2
    counts = parts.masked.sum(dim=1) * values_of_part
    torch.testing.assert_close(squares / counts, errors, rtol=1e-3, atol=1e-5)
