"""No step waits for the device that computes it.

Steps run on torch's ``meta`` device, whose tensors have no values: whatever asks for one (``item``,
``tolist``, ``cpu``, boolean indexing) raises there, where a GPU would have waited.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.device_traffic import DeviceTraffic, Unread
from pmae.basis.basis import Basis
from pmae.data.images import ImageData, MemorySplit
from pmae.data.transforms.standardize import PixelStatistics
from pmae.errors import NonFiniteLossError
from pmae.methods.base import method_for
from pmae.runtime.transfer import LateLoss
from pmae.spec import DatasetSpec, ExperimentSpec, MaskingSpec, resolve
from pmae.training.batches import Feed
from pmae.training.module import PretrainModule

META = torch.device("meta")
IMAGES = 40
MAX_COPIES = 5
"""To the device in a step: which images, their boxes and flips, and what is masked."""


def _spec(tiny: ExperimentSpec, method: str = "pmae", **masking: Any) -> ExperimentSpec:
    """Steps of ten images."""
    changes: dict[str, Any] = {
        "method": method,
        "masking": MaskingSpec.model_validate(masking),
        "batch_size": 10,
        # Not fused: that kernel exists for devices with values only.
        "optimizer": tiny.optimizer.model_copy(update={"implementation": "foreach"}),
    }
    if method == "mae":
        changes["basis"] = None
    if "mode" in masking:
        changes["dataset"] = DatasetSpec(name="clevr", resolution=32)
    return resolve(tiny.model_copy(update=changes))


def _module(spec: ExperimentSpec) -> PretrainModule:
    noise, edge = torch.Generator().manual_seed(0), spec.resolution
    images = torch.randint(0, 256, (IMAGES, 1, edge, edge), generator=noise, dtype=torch.uint8)
    objects = (images[:, 0] > 128).to(torch.uint8) if spec.masking.needs_object_masks else None
    split = MemorySplit(images, torch.arange(IMAGES) % 2, objects)
    data = ImageData("noise", split, split, split, ("even", "odd"))
    share = torch.full((edge * edge,), 1 / edge**2, dtype=torch.float64)
    basis = Basis(torch.eye(edge * edge), share) if spec.method == "pmae" else None
    statistics = PixelStatistics(torch.full((1, edge, edge), 0.5), torch.ones(1, edge, edge))
    return PretrainModule(spec, data, statistics, method_for(spec, basis))


def _on_meta(module: PretrainModule) -> Unread:
    """Move a module and its basis to the device without values."""
    if basis := getattr(module.method, "basis", None):
        module.method = method_for(module.spec, basis.to(META))
    module.to(META)
    module.loss = losses = Unread()
    return losses


@pytest.mark.parametrize("accumulate_steps", [1, 2])
@pytest.mark.parametrize(
    ("method", "masking"),
    [
        ("pmae", {"ratio": 0.3}),
        ("pmae", {"ratio": 0.3, "scope": "image"}),
        ("pmae", {"ratio": (0.1, 0.5), "strategy": "block"}),
        ("mae", {"ratio": 0.75}),
        ("mae", {"strategy": "segmentation", "mode": "partial", "ratio": (0.3, 0.9)}),
    ],
    ids=["batch", "image", "block", "patches", "objects"],
)
def test_steps_wait_for_nothing(
    method: str, masking: dict[str, Any], accumulate_steps: int, tiny_spec: ExperimentSpec
) -> None:
    spec = _spec(tiny_spec, method, **masking)
    if not spec.masking.needs_object_masks:  # those are drawn for whole batches
        spec = spec.model_copy(update={"accumulate_steps": accumulate_steps})
    module, accumulate_steps = _module(spec), spec.accumulate_steps
    losses = _on_meta(module)
    optimizer = module.configure_optimizers()
    for micro_step in range(3 * accumulate_steps):
        with DeviceTraffic(META) as traffic:
            module.training_step(micro_step).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert traffic.operations > 100
        if micro_step:  # The first one brings the images and the filter's weights, once.
            assert 0 < len(traffic.copies) <= MAX_COPIES
            assert torch.uint8 not in dict(traffic.copies), "images were copied"
    assert losses.steps == [1, 2, 3]
    assert module.sums.values.device == META


def test_what_waits_is_seen(tiny_spec: ExperimentSpec) -> None:
    """Reading sums on that device is an error: the tests above can fail."""
    module = _module(_spec(tiny_spec, "pmae"))
    _on_meta(module)
    module.training_step(0)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        module.sums.counters()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_is_read_a_step_late_and_names_its_own_step(bad: float) -> None:
    losses = LateLoss()
    losses.put(1, torch.tensor(0.5))
    losses.put(2, torch.tensor(bad))
    assert losses.last == 0.5
    with pytest.raises(NonFiniteLossError, match="step 2;"):
        losses.put(3, torch.tensor(0.25))


def test_a_loss_is_read_when_it_is_asked_for() -> None:
    losses = LateLoss()
    losses.put(1, torch.tensor(0.5))
    assert losses.read() == losses.read() == 0.5
    losses.put(2, torch.tensor(float("nan")))
    with pytest.raises(NonFiniteLossError, match="step 2;"):
        losses.read()


def test_draws_are_ready_before_they_are_asked_for_and_the_same_from_any_step(
    tiny_spec: ExperimentSpec,
) -> None:
    """A feed that begins anew, at any micro-step, gives what one that ran through gave."""
    spec = _spec(tiny_spec, "pmae", scope="image", ratio=(0.1, 0.5))
    spec = spec.model_copy(update={"accumulate_steps": 2})
    module = _module(spec)

    def feed() -> Feed:
        return Feed(spec, module.plan, module.data.train, module.method, 0)

    device, through = torch.device("cpu"), feed()
    parts = [through.part(micro_step, device) for micro_step in range(8)]
    for begin in (0, 3, 6):
        other = feed()
        for micro_step in (begin, begin + 1, begin):
            part, same = parts[micro_step], other.part(micro_step, device)
            assert torch.equal(part.batch.images, same.batch.images)
            assert torch.equal(part.masked, same.masked)
            assert part.augmentation.boxes is not None
            assert same.augmentation.boxes is not None
            assert torch.equal(part.augmentation.boxes, same.augmentation.boxes)
    assert not torch.equal(parts[0].masked, parts[1].masked)
    shares = [part.share_of_masked for part in parts]
    assert sum(shares[:2]) == pytest.approx(1)


def test_an_error_of_a_drawing_thread_ends_training(tiny_spec: ExperimentSpec) -> None:
    spec = _spec(tiny_spec)
    module = _module(spec)

    class Broken:
        def draw(self, *_: object) -> None:
            raise ValueError("no mask")

    feed = Feed(spec, module.plan, module.data.train, Broken(), 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no mask"):
        feed.part(0, torch.device("cpu"))
