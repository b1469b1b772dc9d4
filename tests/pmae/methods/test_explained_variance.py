"""Losses and the explained variance against NumPy, one image and one component at a time."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pmae.basis.bands import Bands
from pmae.basis.basis import Basis
from pmae.methods.base import Method
from pmae.methods.losses import PATCH_EPSILON
from pmae.methods.mae import MAE
from pmae.methods.pmae import PMAE
from pmae.methods.residuals import MeanSquares
from pmae.metrics import BANDS
from pmae.models.patches import patchify
from pmae.runs.events import finite
from pmae.training.epoch_sums import EpochSums, step_sums

SIZE, PATCH = 16, 2
seeds = st.integers(0, 2**31)


def _basis() -> Basis:
    noise = torch.Generator().manual_seed(1)
    share = 0.8 ** torch.arange(SIZE, dtype=torch.float64)
    components = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=noise)).Q
    return Basis(components.contiguous(), share / share.sum())


def _case(seed: int, *shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, a prediction, and a mask that hides something of each and shows something."""
    noise = torch.Generator().manual_seed(seed)
    images, prediction = torch.randn(2, 5, 1, 4, 4, generator=noise)
    masked = torch.rand(*shape, generator=noise) < 0.5
    masked[..., 0], masked[..., -1] = True, False
    return images, prediction, masked


@given(seeds, st.booleans(), st.sampled_from(["none", "masked_variance"]))
def test_components(seed: int, per_image: bool, scale: Literal["none", "masked_variance"]) -> None:
    basis = _basis()
    method = PMAE(basis, scale)
    images, prediction, masked = _case(seed, *((5, SIZE) if per_image else (SIZE,)))
    score = method.score(prediction, method.project(images, masked))

    v = basis.components.double().numpy()
    eigenvalues = SIZE * basis.explained_variance_ratio.numpy()
    before = (
        np.cumsum(basis.explained_variance_ratio.numpy()) - basis.explained_variance_ratio.numpy()
    )
    losses = []
    residual, target = dict.fromkeys(BANDS, 0.0), dict.fromkeys(BANDS, 0.0)
    rows = np.broadcast_to(masked.numpy(), (5, SIZE))
    for x, x_hat, row in zip(images.double(), prediction.double(), rows, strict=True):
        z, z_hat = v @ x.numpy().ravel(), v @ x_hat.numpy().ravel()
        mean = eigenvalues[row].mean() if scale == "masked_variance" else 1.0
        for component in np.flatnonzero(row):
            square = (z_hat[component] - z[component]) ** 2
            losses.append(square / mean)
            band = BANDS[sum(before[component] >= edge for edge in (0.5, 0.8, 0.95))]
            residual[band] += square
            target[band] += z[component] ** 2
    assert float(score.loss) == pytest.approx(np.mean(losses), rel=1e-4)
    np.testing.assert_allclose(score.residual, list(residual.values()), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(score.target, list(target.values()), rtol=1e-4, atol=1e-9)


@given(seeds, st.booleans())
def test_patches(seed: int, norm_pix_loss: bool) -> None:
    method = MAE(4, PATCH, norm_pix_loss)
    images, prediction, masked = _case(seed, 5, 4)
    batch = method.project(images, masked)
    score = method.score(prediction, batch)
    x, x_hat = (
        patchify(images, PATCH).double().numpy(),
        patchify(prediction, PATCH).double().numpy(),
    )
    losses, residual, target = [], 0.0, 0.0
    for image, patch in zip(*np.nonzero(masked.numpy()), strict=True):
        pixels, decoded = x[image, patch], x_hat[image, patch]
        mean, deviation = 0.0, 1.0
        if norm_pix_loss:
            mean, deviation = pixels.mean(), np.sqrt(pixels.var(ddof=1) + PATCH_EPSILON)
        losses.append(((decoded - (pixels - mean) / deviation) ** 2).mean())
        residual += ((decoded * deviation + mean - pixels) ** 2).sum()
        target += ((pixels - mean) ** 2).sum()
    assert float(score.loss) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(score.residual) == pytest.approx(residual, rel=1e-4)
    assert float(score.target) == pytest.approx(target, rel=1e-4)


@pytest.mark.parametrize("per_image", [False, True])
def test_a_scaled_loss_weighs_alike_whatever_is_masked(per_image: bool) -> None:
    """Predicting nothing costs 1 under every mask, where the raw loss differs tenfold."""
    basis, noise = _basis(), torch.Generator().manual_seed(0)
    deviations = (SIZE * basis.explained_variance_ratio).sqrt().float()
    drawn = torch.randn(20_000, SIZE, generator=noise) * deviations
    images = basis.inverse_transform(drawn).view(-1, 1, 4, 4)
    nothing = torch.zeros_like(images)
    raw: list[float] = []
    scaled: list[float] = []
    for start in range(0, SIZE, 4):
        masked = torch.zeros(SIZE, dtype=torch.bool)
        masked[start : start + 4] = True
        masked = masked.expand(len(images), -1) if per_image else masked
        for method, found in (
            (PMAE(basis), raw),
            (PMAE(basis, "masked_variance"), scaled),
        ):
            found.append(float(method.score(nothing, method.project(images, masked)).loss))
    assert scaled == pytest.approx([1.0] * 4, rel=0.03)
    assert max(raw) > 10 * min(raw)


def test_a_perfect_normalised_prediction_reconstructs_the_image() -> None:
    method = MAE(4, PATCH, norm_pix_loss=True)
    images, _, masked = _case(0, 5, 4)
    batch = method.project(3 * images + 1, masked)
    flat = (batch.images - batch.images.mean()).clone()
    for image in range(5):
        for row in (0, PATCH):
            for column in (0, PATCH):
                box = np.s_[image, 0, row : row + PATCH, column : column + PATCH]
                flat[box] = (flat[box] - flat[box].mean()) / flat[box].std()
    torch.testing.assert_close(method.standardized(flat, batch), batch.images)
    assert float(method.score(flat, batch).loss) < 1e-9


METHODS: list[Method] = [
    PMAE(_basis()),
    MAE(4, PATCH),
    MAE(4, PATCH, norm_pix_loss=True),
]


@pytest.mark.parametrize("method", METHODS, ids=["pmae", "mae", "mae-norm-pix"])
def test_reconstructions_and_training_agree(method: Method) -> None:
    images, prediction, masked = _case(7, 5, method.num_total)
    batch = method.project(images, masked)
    score = method.score(prediction, batch)
    squares = MeanSquares(*method.mean_squares(prediction, batch), masked, method.bands)
    explained = squares.explained()
    share = 1 - score.residual / score.target
    assert explained.whole == pytest.approx(float(1 - score.residual.sum() / score.target.sum()))
    assert list(explained.bands.values()) == pytest.approx(share.tolist() if len(share) > 1 else [])
    of_image = squares.explained_per_image()[3]
    alone = method.project(images[3:4], masked[3:4])
    score = method.score(prediction[3:4], alone)
    assert of_image.whole == pytest.approx(float(1 - score.residual.sum() / score.target.sum()))


def test_nothing_and_everything_explained() -> None:
    method = PMAE(_basis())
    images, _, masked = _case(3, SIZE)
    batch = method.project(images, masked)
    for prediction, share in ((images, 1.0), (torch.zeros_like(images), 0.0), (-images, -3.0)):
        found = MeanSquares(
            *method.mean_squares(prediction, batch), masked.expand(5, -1), method.bands
        ).explained()
        assert found.whole == pytest.approx(share, abs=1e-6)
        assert found.bands == pytest.approx(dict.fromkeys(found.bands, share), abs=1e-6)


def test_a_band_begins_where_the_variance_before_it_says() -> None:
    assert Bands.of_spectrum(torch.tensor([0.67, 0.14, 0.1, 0.09])).index.tolist() == [0, 1, 2, 2]
    assert Bands.of_spectrum(torch.full((20,), 0.05, dtype=torch.float64)).index.bincount(
        minlength=4
    ).tolist() == [10, 6, 3, 1]
    truncated = Bands.of_spectrum(torch.tensor([0.3, 0.1], dtype=torch.float64))
    assert truncated.index.tolist() == [0, 0], "shares are of the total variance"


def test_an_epoch_sums_before_it_divides_and_a_checkpoint_keeps_it() -> None:
    method = PMAE(_basis())
    sums, correct = EpochSums(BANDS), torch.tensor(2.0, dtype=torch.float64)
    residual, target = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for seed in range(3):
        images, prediction, masked = _case(seed, SIZE)
        score = method.score(prediction, method.project(images, masked))
        residual, target = residual + score.residual, target + score.target
        sums.add(step_sums(score, 5, correct, torch.tensor(0.5), 5))
        sums = EpochSums(BANDS, sums.counters())
    means = sums.means("val", "top1")
    expected = {"val_explained_variance": float(1 - residual.sum() / target.sum())} | {
        f"val_explained_variance_{band}": float(1 - r / t)
        for band, r, t in zip(BANDS, residual, target, strict=True)
    }
    assert means.items() >= expected.items()
    assert means["val_online_probe_top1"] == pytest.approx(0.4)


def test_an_epoch_of_which_a_checkpoint_knows_too_little_has_no_figure() -> None:
    older = {"loss": 3.0, "correct": 2.0, "images": 5.0}
    sums = EpochSums(BANDS, older)
    method = PMAE(_basis())
    images, prediction, masked = _case(0, SIZE)
    score = method.score(prediction, method.project(images, masked))
    sums.add(step_sums(score, 5, torch.tensor(1.0), torch.tensor(0.5), 5))
    known = finite(sums.means("train", "top1"))
    assert set(known) == {"train_loss", "train_online_probe_top1"}
    assert known["train_online_probe_top1"] == pytest.approx(0.3)
    of_next_epoch = EpochSums(BANDS, dict.fromkeys(older, 0.0))
    of_next_epoch.add(step_sums(score, 5, torch.tensor(1.0), torch.tensor(0.5), 5))
    assert "train_explained_variance" in of_next_epoch.means("train", "top1")
