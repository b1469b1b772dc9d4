"""The losses against independent NumPy computations of the papers' equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pmae.basis.basis import Basis
from pmae.basis.projection import Projection
from pmae.masking import random_component_mask, random_patch_mask
from pmae.methods.losses import masked_component_loss, masked_patch_loss
from pmae.models.patches import patchify, pixel_mask, unpatchify


def _images(seed: int) -> torch.Tensor:
    return torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def _basis() -> Basis:
    square = torch.randn(48, 48, generator=torch.Generator().manual_seed(7))
    spectrum = torch.linspace(2, 0.1, 48, dtype=torch.float64)
    return Basis(torch.linalg.qr(square).Q.T.contiguous(), spectrum / spectrum.sum())


@pytest.mark.parametrize("per_image", [False, True])
def test_component_loss_is_the_papers_equation(per_image: bool) -> None:
    basis, prediction, target = _basis(), _images(0), _images(1)
    generator = torch.Generator().manual_seed(2)
    masked = random_component_mask(
        basis.explained_variance_ratio,
        0.3,
        generator,
        count="nearest",
        batch=5 if per_image else None,
    )
    v = basis.components.double().numpy().T
    rows = masked.numpy() if per_image else np.tile(masked.numpy(), (5, 1))
    squares = []
    for x_hat, x, row in zip(prediction.double(), target.double(), rows, strict=True):
        difference = x_hat.numpy().reshape(-1) @ v - x.numpy().reshape(-1) @ v
        squares.extend(difference[row] ** 2)
    projection = Projection.of(basis, masked)
    loss = masked_component_loss(projection.coordinates(prediction - target), projection.masked)
    assert float(loss) == pytest.approx(np.mean(squares), abs=1e-5)


def test_with_the_identity_as_basis_it_is_maes_loss() -> None:
    prediction, target = _images(0), _images(1)
    masked = random_patch_mask(1, 4, 0.5, torch.Generator().manual_seed(3)).expand(5, -1)
    identity = Basis(torch.eye(48), torch.full((48,), 1 / 48, dtype=torch.float64))
    pixels = pixel_mask(masked[:1], 2).expand(1, 3, 4, 4).flatten()
    error = prediction - target
    of_components = masked_component_loss(Projection.of(identity, pixels).coordinates(error), None)
    of_patches = masked_patch_loss(patchify(error, 2), masked)
    torch.testing.assert_close(of_components, of_patches)


def test_patch_loss_counts_masked_patches_only() -> None:
    prediction, target = _images(0), _images(1)
    masked = random_patch_mask(5, 4, 0.75, torch.Generator().manual_seed(4))
    squares = [
        (prediction[i, :, r : r + 2, c : c + 2] - target[i, :, r : r + 2, c : c + 2]).numpy() ** 2
        for i in range(5)
        for n, (r, c) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)])
        if masked[i, n]
    ]
    loss = masked_patch_loss(patchify(prediction - target, 2), masked)
    assert float(loss) == pytest.approx(np.mean(squares), abs=1e-6)


def test_patches_are_slices_and_go_back() -> None:
    images = _images(5)
    patches = patchify(images, 2)
    expected = images[:, :, 2:4, 0:2].permute(0, 2, 3, 1).flatten(1)
    assert torch.equal(patches[:, 2], expected)
    assert torch.equal(unpatchify(patches, 2, 3), images)
