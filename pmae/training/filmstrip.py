"""Frames of a run's filmstrip, drawn while it trains (:mod:`pmae.runs.frames`)."""

from __future__ import annotations

import torch

from pmae.data.transforms.standardize import PixelStatistics
from pmae.inference.reconstruct import Parts, panels, reconstruct
from pmae.runs.frames import FILM_IMAGES, frame_epochs, write_frame, write_reference
from pmae.runs.layout import LeaseDir
from pmae.seeding import generator
from pmae.training.module import PretrainModule


class Film:
    """Takes the frames of one lease: the first validation images under one draw of masks.

    Of a run without a validation split they are the first test images.

    Args:
        lease: into whose folder they go.
        epochs: of the run.
    """

    def __init__(self, lease: LeaseDir, epochs: int) -> None:
        self._lease = lease
        self._epochs = frame_epochs(epochs)
        self._began = False

    def take(self, module: PretrainModule, step: int) -> None:
        """Take a frame if one is due after ``step``; the module and its random state stay as is.

        Args:
            module: after ``step`` steps, in training mode, on the device that computes.
            step: optimiser steps done; a frame is due after some epochs only.
        """
        epoch, rest = divmod(step, module.plan.steps_per_epoch)
        if rest or epoch not in self._epochs:
            return
        parts, statistics, labels = _reconstruct(module)
        pictures = panels(parts, statistics)
        if not self._began:
            write_reference(self._lease, pictures, labels)
            self._began = True
        write_frame(self._lease, step, epoch, pictures)


def _reconstruct(module: PretrainModule) -> tuple[Parts, PixelStatistics, list[str]]:
    """The parts on the CPU, what brings them back to pixels, and the images' classes."""
    data, spec = module.data, module.spec
    shown = data.val if data.has_val else data.test
    batch = shown.take(torch.arange(min(FILM_IMAGES, len(shown)))).to(module.device)
    statistics = PixelStatistics(module.pixel_mean, module.pixel_std)
    images = statistics.standardize(batch.images / 255)
    noise = generator(spec.seed, "filmstrip")
    draw = module.method.draw(len(images), spec.masking, noise, batch.object_masks)
    module.eval()
    parts, _ = reconstruct(module.model, module.method, images, draw.masked.to(module.device))
    module.train()
    labels = [data.label_text(label) for label in batch.labels]
    return parts.cpu(), statistics.to(torch.device("cpu")), labels
