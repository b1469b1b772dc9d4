"""Prefetched input of the steps: images, crops, flips and masks.

Images are gathered by their indices on the device that holds the split: a GPU if it fits there.
Crops, flips and masks are functions of (seed, step), sampled by threads on the CPU while earlier
steps compute: they do not depend on the device, or on the order in which the threads finish.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from pmae.data.images import Batch, MemorySplit, Split
from pmae.data.transforms.augment import AugmentationDraw, draw_augmentation
from pmae.methods.base import MaskSample, Method
from pmae.seeding import generator
from pmae.spec import ExperimentSpec
from pmae.training.plan import StepPlan

RESIDENT_SHARE = 0.25
"""Maximum fraction of a GPU's free memory, at the start of training, for the train split."""
_MAX_DRAWING_THREADS = 4


@dataclass(frozen=True)
class Part:
    """Input of one device in one micro-step.

    Attributes:
        batch: images and labels, on the device.
        augmentation: crops and flips of these images.
        masked: bool, True = masked, on the CPU: ``(num_total,)`` or ``(images, num_total)``.
        draw: mask sample of the whole step.
        share_of_images: fraction of the step's images that are in this part.
        share_of_masked: fraction of the step's masked entries that are in this part.
    """

    batch: Batch
    augmentation: AugmentationDraw
    masked: Tensor
    draw: MaskSample
    share_of_images: float
    share_of_masked: float


_Drawn = tuple[AugmentationDraw, MaskSample]


class Feed:
    """Feed of the parts of steps, in order, with a few prefetched.

    Args:
        spec: resolved spec.
        plan: plan of the steps.
        split: split to train on.
        method: method that samples the masks.
        rank: rank of the device, from 0, among those that share a batch.
    """

    def __init__(
        self, spec: ExperimentSpec, plan: StepPlan, split: Split, method: Method, rank: int
    ) -> None:
        self._spec = spec
        self._plan = plan
        self._split = split
        self._method = method
        self._rank = rank
        self._threads: ThreadPoolExecutor | None = None
        self._next = self._last = -1
        self._num_ahead = 0
        self._batches: Iterator[Batch] = iter(())
        self._ahead: deque[tuple[Batch, Future[_Drawn]]] = deque()
        self._drawing: tuple[int, Future[_Drawn]] | None = None

    def part(self, micro_step: int, device: torch.device) -> Part:
        """Return the input of a micro-step.

        Args:
            micro_step: from 0; any other than the next one restarts the prefetching.
            device: device that computes; the same at every call.
        """
        if micro_step != self._next:
            self._begin(micro_step, device)
        batch, drawn = self._ahead.popleft()
        self._next = micro_step + 1
        self._fill()
        augmentation, draw = drawn.result()
        rows = self._plan.rows(micro_step, self._rank)
        masked = draw.masked if draw.masked.ndim == 1 else draw.masked[rows]
        of_images = len(batch.images) / self._plan.images_per_step
        return Part(
            batch.to(device),
            augmentation.part(rows),
            masked,
            draw,
            of_images,
            of_images if masked.ndim == 1 else float(masked.sum() / draw.masked.sum()),
        )

    def _begin(self, micro_step: int, device: torch.device) -> None:
        if self._threads is None:
            self._split = resident(self._split, device)
            on_cpu = device.type == "cpu"
            count = 1 if on_cpu else min(_MAX_DRAWING_THREADS, os.cpu_count() or 1)
            self._threads = ThreadPoolExecutor(count, thread_name_prefix="draw")
            self._num_ahead = count + 1
        self._next, self._last = micro_step, micro_step - 1
        self._ahead.clear()
        last = self._plan.total_steps * self._plan.accumulate_steps
        self._batches = self._split.batches(map(self._indices, range(micro_step, last)))
        self._fill()

    def _fill(self) -> None:
        while len(self._ahead) < self._num_ahead:
            batch = next(self._batches, None)
            if batch is None:
                return
            self._last += 1
            self._ahead.append((batch, self._draws(self._last, batch.object_masks)))

    def _draws(self, micro_step: int, object_masks: Tensor | None) -> Future[_Drawn]:
        """Sample a step's augmentation and masks, once for all of its parts.

        If masks follow objects, a resolved spec has one part per step.
        """
        step = micro_step // self._plan.accumulate_steps
        if self._drawing is None or self._drawing[0] != step:
            assert self._threads is not None
            self._drawing = step, self._threads.submit(self._draw, step, object_masks)
        return self._drawing[1]

    def _draw(self, step: int, object_masks: Tensor | None) -> _Drawn:
        """Sample crops, flips and masks of a step's whole batch; runs in a thread."""
        spec, images = self._spec, self._plan.images_per_step
        _, height, width = self._split.image_shape
        crops = generator(spec.seed, "augment", step)
        augmentation = draw_augmentation(images, height, width, spec.augmentation, crops)
        if object_masks is not None:
            object_masks = augmentation.apply_to_object_masks(object_masks)
        noise = generator(spec.seed, "mask", step)
        return augmentation, self._method.draw(images, spec.masking, noise, object_masks)

    def _indices(self, micro_step: int) -> Tensor:
        indices = self._plan.batch_indices(
            self._spec.seed, micro_step // self._plan.accumulate_steps
        )
        return indices[self._plan.rows(micro_step, self._rank)]


def resident(split: Split, device: torch.device) -> Split:
    """Move a split in memory to ``device`` if it fits there; else return it unchanged.

    It may take at most :data:`RESIDENT_SHARE` of a GPU's free memory.
    """
    if device.type == "cpu" or not isinstance(split, MemorySplit):
        return split
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if split.images.numel() > RESIDENT_SHARE * free:
            return split
    return split.to(device)
