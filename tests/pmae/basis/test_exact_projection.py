"""What the encoder sees holds no trace of what was masked, whatever the model computes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from pmae.basis.pca import fit_pca
from pmae.data.images import ImageData, MemorySplit
from pmae.data.transforms.standardize import PixelStatistics
from pmae.methods.pmae import PMAE
from pmae.seeding import generator
from pmae.spec import ExperimentSpec
from pmae.training.module import PretrainModule

EDGE, IMAGES, HELD_OUT = 16, 3000, 1000
ALPHA = 1e-2
"""Strong enough that even the rounding of fp32, 6e-8 of a value, tells nothing."""
MARGIN = 0.02
"""By so much R2 may be above that of fp32: both are estimated on 1,000 images."""


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Standardised noise with the spectrum of natural images, amplitude 1/f: ``(n, 1, 16, 16)``.

    Not rounded to uint8: training images are not either, since crops are interpolated.
    """
    noise = np.random.default_rng(0).standard_normal((IMAGES + HELD_OUT, 1, EDGE, EDGE))
    frequency = np.hypot(np.fft.fftfreq(EDGE)[:, None], np.fft.fftfreq(EDGE))
    frequency[0, 0] = 1 / EDGE
    values = torch.from_numpy(np.fft.ifft2(np.fft.fft2(noise) / frequency).real).float()
    return (values - values[:IMAGES].mean(dim=0)) / values[:IMAGES].std(dim=0)


def _seen(images: Tensor, spec: ExperimentSpec) -> tuple[Tensor, Tensor]:
    """What a run's encoder is given of all images under one mask, and the masked coordinates."""
    some = MemorySplit(torch.zeros(1, *images.shape[1:], dtype=torch.uint8), torch.tensor([0]))
    data = ImageData("noise", some, some, some, ("one", "other"))
    statistics = PixelStatistics(torch.zeros(images.shape[1:]), torch.ones(images.shape[1:]))
    basis = fit_pca([images[:IMAGES]])
    method = PMAE(basis)
    module = PretrainModule(spec, data, statistics, method)
    masked = method.draw(1, spec.masking, generator(0, "mask")).masked
    given: list[Tensor] = []
    module.model.encoder.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.no_grad():
        module._score(images, masked)
    coordinates = images.double().flatten(1) @ basis.components[masked].double().T
    return given[0].flatten(1), coordinates


def _held_out_r2(seen: Tensor, masked: Tensor) -> float:
    x, z = seen.double().numpy(), masked.numpy()
    error = z[IMAGES:] - Ridge(ALPHA).fit(x[:IMAGES], z[:IMAGES]).predict(x[IMAGES:])
    spread = z[IMAGES:] - z[:IMAGES].mean(axis=0)
    return float(1 - (error**2).sum() / (spread**2).sum())


def test_a_visible_image_does_not_tell_what_was_masked(
    images: Tensor, tiny_spec: ExperimentSpec
) -> None:
    dataset = tiny_spec.dataset.model_copy(update={"resolution": EDGE})
    r2 = {}
    for precision in ("fp32", "bf16"):
        changes = {"precision": precision, "dataset": dataset}
        r2[precision] = _held_out_r2(*_seen(images, tiny_spec.model_copy(update=changes)))
    assert r2["fp32"] < MARGIN
    assert r2["bf16"] <= r2["fp32"] + MARGIN
