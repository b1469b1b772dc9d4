"""Frames of a run's filmstrip, recorded during training (:mod:`pmae.runs.frames`)."""

from __future__ import annotations

import torch

from pmae.data.transforms.standardize import PixelStatistics
from pmae.inference.reconstruct import Parts, panels, reconstruct
from pmae.runs.frames import FILM_IMAGES, frame_epochs, write_frame, write_reference
from pmae.runs.layout import LeaseDir
from pmae.seeding import generator
from pmae.training.module import PretrainModule


class Film:
    """Recorder of one lease's frames: the first validation images, always with the same masks.

    A run without a validation split uses its first test images.

    Args:
        lease: folder of the lease, which receives the frames.
        epochs: epochs of the run.
    """

    def __init__(self, lease: LeaseDir, epochs: int) -> None:
        self._lease = lease
        self._epochs = frame_epochs(epochs)
        self._began = False

    def take(self, module: PretrainModule, step: int) -> None:
        """Record a frame if one is due after ``step``, without changing module or random state.

        Args:
            module: after ``step`` steps, in training mode, on the device that computes.
            step: finished optimiser steps; frames are due at the end of some epochs only.
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
    """Return the parts on the CPU, the statistics that map them to pixels, and the labels."""
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
