"""Batched augmentation against torchvision's, image by image."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as transforms

from pmae.data.augment import augment, resized_crop, sample_crops
from pmae.spec import AugmentationSpec


def test_the_same_box_gives_torchvisions_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(40, 3, 28, 28, generator=generator)
    boxes = sample_crops(40, 28, 28, (0.05, 1.0), (0.75, 4 / 3), generator)
    ours = resized_crop(images, boxes)
    for image, box, result in zip(images, boxes.tolist(), ours, strict=True):
        theirs = transforms.resized_crop(
            image, *box, [28, 28], InterpolationMode.BICUBIC, antialias=True
        )
        torch.testing.assert_close(result, theirs, atol=2e-5, rtol=0)


def test_boxes_fit_and_have_torchvisions_distribution() -> None:
    scale, ratio = (0.2, 1.0), (3 / 4, 4 / 3)
    boxes = sample_crops(4000, 32, 32, scale, ratio, torch.Generator().manual_seed(1))
    top, left, height, width = boxes.unbind(1)
    assert bool(((top >= 0) & (top + height <= 32) & (left >= 0) & (left + width <= 32)).all())
    torch.manual_seed(2)
    crop, image = RandomResizedCrop(32, scale, ratio), torch.zeros(3, 32, 32)
    theirs = [crop.make_params([image]) for _ in range(4000)]
    for name, ours in (("top", top), ("left", left), ("height", height), ("width", width)):
        peer = [params[name] for params in theirs]
        np.testing.assert_allclose(ours.double().mean(), np.mean(peer), rtol=0.04)
        np.testing.assert_allclose(ours.double().std(), np.std(peer), rtol=0.06)


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
