"""Masks from object segmentations: what is masked, and that padding changes nothing."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pmae.masking import (
    background_patch_mask,
    object_patch_mask,
    objects_in_patches,
    padded_visible_indices,
    random_patch_mask,
    visible_indices,
)
from pmae.methods.mae import MAE
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.models.patches import pixel_mask
from pmae.spec import DatasetSpec, ExperimentSpec, MaskingSpec, ModelSpec, resolve
from pmae.spec.parts.masking import RATIO_MODES, Predicted

Mode = Literal["complete", "partial", "random"]
modes = st.sampled_from(["complete", "partial", "random"])
seeds = st.integers(0, 2**31 - 1)
EDGE, PATCH = 8, 2
GRID = EDGE // PATCH


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _object_masks(seed: int, batch: int) -> torch.Tensor:
    """Rectangles of objects 1 to 3 over each other; some images show none."""
    random = np.random.default_rng(seed)
    masks = np.zeros((batch, EDGE, EDGE), np.uint8)
    for mask in masks:
        for number in range(1, random.integers(0, 3) + 1):
            top, left = random.integers(0, EDGE, 2)
            height, width = random.integers(1, EDGE + 1, 2)
            mask[top : top + height, left : left + width] = number
    return torch.from_numpy(masks)


def _patches_of(mask: np.ndarray, number: int) -> set[int]:
    """Patches with a pixel of an object, by slicing."""
    return {
        row * GRID + column
        for row in range(GRID)
        for column in range(GRID)
        if (mask[row * PATCH :, column * PATCH :][:PATCH, :PATCH] == number).any()
    }


@given(seeds, modes, st.floats(0.05, 0.95))
def test_each_mode_masks_what_it_says_of_one_object(seed: int, mode: Mode, ratio: float) -> None:
    masks = _object_masks(seed, 6)
    shown = objects_in_patches(masks, PATCH)
    masked = object_patch_mask(shown, mode, ratio, _generator(seed))
    assert torch.equal(masked, object_patch_mask(shown, mode, ratio, _generator(seed)))
    for mask, row in zip(masks.numpy(), masked, strict=True):
        found = set(row.nonzero()[:, 0].tolist())
        assert 1 <= len(found) <= GRID**2 - 1
        objects = [_patches_of(mask, n) for n in range(1, 256) if (mask == n).any()]
        if not objects:
            assert len(found) == 1
            continue
        if mode == "random":
            assert len(found) in {min(len(patches), GRID**2 - 1) for patches in objects}
            continue
        holding = [patches for patches in objects if found <= patches]
        assert holding, "only patches of one object are masked"
        if mode == "complete":
            assert any(found == p or len(p) == GRID**2 for p in holding)
        else:
            misses = [abs(len(found) - ratio * len(p)) for p in holding]
            assert min(misses) <= 0.5 + 1e-9 or len(found) == 1


def test_every_object_in_sight_is_drawn_equally_often() -> None:
    mask = torch.zeros(1, EDGE, EDGE, dtype=torch.uint8)
    mask[0, :4, :4], mask[0, 5, 5], mask[0, 7, :2] = 3, 200, 255
    shown = objects_in_patches(mask, PATCH).expand(6000, -1, -1)
    masked = object_patch_mask(shown, "complete", 1.0, _generator(0))
    of = {n: sorted(_patches_of(mask[0].numpy(), n)) for n in (3, 200, 255)}
    rows = [row.nonzero()[:, 0].tolist() for row in masked]
    for patches in of.values():
        assert rows.count(patches) / 6000 == pytest.approx(1 / 3, abs=0.03)


def test_a_partial_mask_takes_any_of_the_objects_patches() -> None:
    mask = torch.zeros(1, EDGE, EDGE, dtype=torch.uint8)
    mask[0, :4, :4] = 1
    shown = objects_in_patches(mask, PATCH).expand(4000, -1, -1)
    masked = object_patch_mask(shown, "partial", 0.5, _generator(0)).double().mean(dim=0)
    np.testing.assert_allclose(masked[[0, 1, 4, 5]], 0.5, atol=0.04)
    assert masked.sum() == 2


@given(seeds, modes, st.floats(0.05, 0.95))
def test_the_background_is_masked_and_of_the_objects_what_the_mode_says(
    seed: int, mode: Mode, ratio: float
) -> None:
    """By slicing, one image at a time: shown are patches of objects only, as many as are to be."""
    masks = _object_masks(seed, 6)
    shown = objects_in_patches(masks, PATCH)
    masked = background_patch_mask(shown, mode, ratio, _generator(seed))
    assert torch.equal(masked, background_patch_mask(shown, mode, ratio, _generator(seed)))
    for mask, row in zip(masks.numpy(), masked, strict=True):
        visible = set((~row).nonzero()[:, 0].tolist())
        assert 1 <= len(visible) <= GRID**2 - 1
        objects = [_patches_of(mask, n) for n in range(1, 256) if (mask == n).any()]
        of_objects = set().union(*objects)
        if not objects:
            assert len(visible) == 1
            continue
        assert visible <= of_objects, "the background is masked"
        hidden = of_objects - visible
        if mode == "complete":
            assert visible == of_objects or (len(of_objects) == GRID**2 and len(hidden) == 1)
            continue
        wanted = {n for n in range(len(of_objects) + 1) if abs(n - ratio * len(of_objects)) <= 0.5}
        if mode == "random":
            assert len(hidden) in {min(n, len(of_objects) - 1) for n in wanted} | {1}
            continue
        if len(of_objects) < GRID**2:
            assert all(visible & patches for patches in objects), "something of each is shown"
        assert len(hidden) <= max(*wanted, 1)
        if len(hidden) < min(wanted):  # no more could be hidden: as few are shown as there may be
            assert len(visible) <= len(objects)


def test_of_the_objects_every_patch_is_masked_equally_often() -> None:
    mask = torch.zeros(1, EDGE, EDGE, dtype=torch.uint8)
    mask[0, :4, :4], mask[0, 4:8, 4:8] = 1, 2
    shown = objects_in_patches(mask, PATCH).expand(6000, -1, -1)
    first, second = (sorted(_patches_of(mask[0].numpy(), n)) for n in (1, 2))
    for mode in ("partial", "random"):
        masked = background_patch_mask(shown, mode, 0.75, _generator(0))
        mean = masked.double().mean(dim=0)
        np.testing.assert_allclose(mean[[*first, *second]], 0.75, atol=0.03)
        assert float(mean.sum()) == pytest.approx(8 + 6)
        lost = [bool(masked[:, of].all(dim=1).any()) for of in (first, second)]
        assert lost == [mode == "random"] * 2


def test_an_image_of_one_object_and_one_without_any_keep_a_patch_of_either_kind() -> None:
    masks = torch.stack([torch.ones(EDGE, EDGE), torch.zeros(EDGE, EDGE)]).to(torch.uint8)
    shown = objects_in_patches(masks, PATCH)
    rows = [background_patch_mask(shown, "complete", 1.0, _generator(s)) for s in range(3000)]
    masked = torch.stack(rows).double()
    np.testing.assert_allclose(masked[:, 0].mean(dim=0), 1 / 16, atol=0.02)
    np.testing.assert_allclose(masked[:, 1].mean(dim=0), 15 / 16, atol=0.02)


@given(seeds, st.integers(1, 5))
def test_padded_indices_name_each_visible_patch_once(seed: int, batch: int) -> None:
    masked = torch.rand(batch, 10, generator=_generator(seed)) < 0.5
    masked[:, 0], masked[:, 1] = True, False
    visible, padding = padded_visible_indices(masked)
    for row, image in enumerate(masked):
        kept = visible[row] if padding is None else visible[row][~padding[row]]
        assert kept.tolist() == (~image).nonzero()[:, 0].tolist()
        assert len(set(visible[row].tolist())) == visible.shape[1]
    if padding is None:
        assert torch.equal(visible, visible_indices(masked))
    else:
        assert bool((~padding).all(dim=1).any()), "no longer than the longest row"


def test_masks_of_equal_numbers_need_no_padding() -> None:
    visible, padding = padded_visible_indices(random_patch_mask(4, 16, 0.75, _generator(0)))
    assert visible.shape == (4, 4)
    assert padding is None


def _model() -> MaskedAutoencoder:
    spec = resolve(
        ExperimentSpec(
            method="mae",
            dataset=DatasetSpec(name="digits"),
            model=ModelSpec(
                embed_dim=16, depth=3, num_heads=2, decoder_embed_dim=16, decoder_num_heads=2
            ),
        )
    )
    model = MaskedAutoencoder(spec.model, image_size=EDGE, channels=3, seed=0)
    with torch.no_grad():
        model.decoder.mask_token.add_(0.5)
    return model.eval()


@settings(max_examples=25)
@given(seeds, modes)
def test_padding_changes_neither_the_encoding_nor_the_image(seed: int, mode: Mode) -> None:
    model, noise = _model(), _generator(seed)
    images = torch.randn(5, 3, EDGE, EDGE, generator=noise)
    shown = objects_in_patches(_object_masks(seed, 5), PATCH)
    draw = object_patch_mask if seed % 2 else background_patch_mask
    masked = draw(shown, mode, 0.5, noise)
    visible, padding = padded_visible_indices(masked)
    with torch.no_grad():
        tokens = model.encoder(images, visible, padding)
        decoded, cls = model(images, visible, padding)
        for row in range(5):
            alone = visible_indices(masked[row : row + 1])
            expected = model.encoder(images[row : row + 1], alone)
            found = tokens[row : row + 1, : expected.shape[1]]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
            image, token = model(images[row : row + 1], alone)
            torch.testing.assert_close(decoded[row : row + 1], image, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(cls[row : row + 1], token, atol=1e-5, rtol=1e-5)


def test_padding_passes_no_gradient() -> None:
    model = _model()
    images = torch.randn(2, 3, EDGE, EDGE, requires_grad=True)
    masked = torch.zeros(2, GRID**2, dtype=torch.bool)
    masked[0, :10], masked[1, :3] = True, True
    method = MAE(GRID**2, PATCH)
    prediction, _ = method.predict(model, method.project(images, masked))
    prediction.square().sum().backward()
    assert images.grad is not None
    hidden = pixel_mask(masked, PATCH).expand_as(images)
    assert float(images.grad[hidden].abs().max()) == 0.0
    assert float(images.grad[~hidden].abs().min()) > 0.0


@pytest.mark.parametrize("predict", ["background", "object"])
@pytest.mark.parametrize("mode", ["complete", "partial", "random"])
def test_the_loss_counts_each_masked_patch(mode: Mode, predict: Predicted) -> None:
    method, noise = MAE(GRID**2, PATCH), _generator(3)
    masking = MaskingSpec(strategy="segmentation", predict=predict, mode=mode, scope="image")
    if mode in RATIO_MODES[predict]:
        masking = masking.model_copy(update={"ratio": (0.2, 0.9)})
    images, prediction = torch.randn(2, 6, 3, EDGE, EDGE, generator=noise)
    draw = method.draw(6, masking, noise, _object_masks(9, 6))
    assert len(set(draw.masked.sum(dim=1).tolist())) > 1
    assert (draw.ratio is None) == (mode not in RATIO_MODES[predict])
    of_objects = objects_in_patches(_object_masks(9, 6), PATCH).any(dim=2)
    in_sight = of_objects.any(dim=1)
    if predict == "background":
        assert bool(draw.masked[in_sight][~of_objects[in_sight]].all())
    elif mode != "random":
        assert not bool(draw.masked[in_sight][~of_objects[in_sight]].any())
    hidden = method.masked_projection(images, draw.masked)
    torch.testing.assert_close(hidden + method.masked_projection(images, ~draw.masked), images)
    squares = []
    for x, x_hat, row in zip(images.numpy(), prediction.numpy(), draw.masked, strict=True):
        for patch in row.nonzero()[:, 0].tolist():
            top, left = PATCH * (patch // GRID), PATCH * (patch % GRID)
            box = np.s_[:, top : top + PATCH, left : left + PATCH]
            squares.append((x_hat[box] - x[box]) ** 2)
    loss = float(method.score(prediction, method.project(images, draw.masked)).loss)
    assert loss == pytest.approx(np.mean(squares), rel=1e-5)
