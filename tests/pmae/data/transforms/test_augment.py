"""Batched augmentation against torchvision's, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as transforms

from pmae.data.transforms.augment import AugmentationDraw, augment, draw_augmentation, sample_crops
from pmae.data.transforms.resample import resized_crop
from pmae.spec import AugmentationSpec

SCALE, RATIO = (0.05, 1.0), (0.75, 4 / 3)


@pytest.mark.parametrize(
    ("stored", "size", "batch"),
    [
        (8, 8, 40),
        (32, 32, 40),
        (64, 64, 16),
        (224, 224, 4),
        # Boxes larger than the result: antialiased shrinking, down to a seventh.
        (64, 32, 24),
        (224, 64, 6),
        (224, 32, 6),
        (256, 224, 3),
        (32, 64, 8),
    ],
)
def test_the_same_box_gives_torchvisions_pixels(stored: int, size: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(stored)
    images = torch.rand(batch, 3, stored, stored, generator=generator)
    boxes = sample_crops(batch, stored, stored, SCALE, RATIO, generator)
    boxes[0] = torch.tensor([0, 0, stored, stored])
    boxes[1] = torch.tensor([stored - 2, stored - 3, 2, 3])
    mirrored = torch.rand(batch, generator=generator) < 0.5
    ours = resized_crop(images, boxes, size=size, mirrored=mirrored)
    assert ours.shape == (batch, 3, size, size)
    for row, box in enumerate(boxes.tolist()):
        theirs = transforms.resized_crop(
            images[row], *box, [size, size], InterpolationMode.BICUBIC, antialias=True
        )
        theirs = theirs.flip(2) if mirrored[row] else theirs
        torch.testing.assert_close(ours[row], theirs, atol=4e-5, rtol=0)


def test_oblong_images_and_one_channel() -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(20, 1, 20, 48, generator=generator)
    boxes = sample_crops(20, 20, 48, SCALE, RATIO, generator)
    ours = resized_crop(images, boxes)
    for row, box in enumerate(boxes.tolist()):
        theirs = transforms.resized_crop(
            images[row], *box, [20, 48], InterpolationMode.BICUBIC, antialias=True
        )
        torch.testing.assert_close(ours[row], theirs, atol=4e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (20, 90), (90, 20)])
def test_boxes_fit_and_have_torchvisions_distribution(height: int, width: int) -> None:
    scale, ratio = (0.2, 1.0), (3 / 4, 4 / 3)
    boxes = sample_crops(4000, height, width, scale, ratio, torch.Generator().manual_seed(1))
    top, left, box_height, box_width = boxes.unbind(1)
    assert bool(((top >= 0) & (top + box_height <= height)).all())
    assert bool(((left >= 0) & (left + box_width <= width)).all())
    torch.manual_seed(2)
    crop, image = RandomResizedCrop(32, scale, ratio), torch.zeros(3, height, width)
    theirs = [crop.make_params([image]) for _ in range(4000)]
    names = ("top", "left", "height", "width")
    for name, ours in zip(names, (top, left, box_height, box_width), strict=True):
        peer = [params[name] for params in theirs]
        np.testing.assert_allclose(ours.double().mean(), np.mean(peer), rtol=0.04, atol=0.2)
        np.testing.assert_allclose(ours.double().std(), np.std(peer), rtol=0.06, atol=0.2)


def test_without_crop_and_flip_nothing_changes() -> None:
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    spec = AugmentationSpec(crop_scale=(1.0, 1.0), horizontal_flip=False)
    result = augment(images, spec, torch.Generator().manual_seed(0))
    assert torch.equal(result, images / 255)


def test_flips_mirror_about_half_of_the_images() -> None:
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(400, -1, -1, -1)
    spec = AugmentationSpec(crop_scale=(1.0, 1.0), horizontal_flip=True)
    result = augment(images, spec, torch.Generator().manual_seed(0))
    mirrored = (result == images.flip(3) / 255).flatten(1).all(dim=1)
    same = (result == images / 255).flatten(1).all(dim=1)
    assert bool((mirrored ^ same).all())
    assert 150 < int(mirrored.sum()) < 250


def test_pixels_stay_in_their_range_where_the_filter_overshoots() -> None:
    images = 255 * torch.randint(0, 2, (64, 3, 16, 16), dtype=torch.uint8)
    boxes = sample_crops(64, 16, 16, (0.2, 0.5), RATIO, torch.Generator().manual_seed(0))
    assert float(resized_crop(images.float(), boxes).max()) > 256
    result = AugmentationDraw(boxes, None).apply(images)
    assert float(result.min()) == 0.0
    assert float(result.max()) == 1.0


def test_a_part_of_a_batch_gets_what_the_whole_batch_would_give_it() -> None:
    images = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8)
    spec = AugmentationSpec(horizontal_flip=True)
    draw = draw_augmentation(12, 16, 16, spec, torch.Generator().manual_seed(4))
    whole, rows = draw.apply(images), slice(5, 9)
    torch.testing.assert_close(draw.part(rows).apply(images[rows]), whole[rows])
    again = augment(images, spec, torch.Generator().manual_seed(4))
    assert torch.equal(again, whole)


@pytest.mark.parametrize("crop_scale", [(0.2, 1.0), (1.0, 1.0)])
def test_object_masks_move_with_their_images(crop_scale: tuple[float, float]) -> None:
    masks = torch.zeros(50, 32, 32, dtype=torch.uint8)
    masks[:, 4:16, 2:12] = 1
    masks[:, 14:30, 18:31] = 2
    images = torch.stack([255 * (masks == 1), 255 * (masks == 2), 0 * masks], dim=1).byte()
    spec = AugmentationSpec(crop_scale=crop_scale, horizontal_flip=True)
    draw = draw_augmentation(50, 32, 32, spec, torch.Generator().manual_seed(5))
    pixels, moved = draw.apply(images), draw.apply_to_object_masks(masks)
    assert moved.dtype == torch.uint8
    for number in (1, 2):
        agree = (moved == number) == (pixels[:, number - 1] > 0.5)
        assert float(agree.double().mean()) > 0.98
    assert set(moved.unique().tolist()) == {0, 1, 2}
