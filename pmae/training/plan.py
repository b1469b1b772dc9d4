"""Plan of the steps: the images of each step and of its parts, as pure functions of the step.

A step's batch is split into ``accumulate_steps * devices`` parts, in the order of its images.
Crops, flips and masks are sampled for the whole batch and then split in the same way, so that
neither number changes the result of a step, except for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pmae.seeding import generator
from pmae.spec import ExperimentSpec
from pmae.spec.parts.optimization import check_images_per_part


@dataclass(frozen=True)
class StepPlan:
    """Steps of a run and their images.

    Attributes:
        num_images: images of the train split.
        batch_size: images per batch; a smaller train split makes one smaller batch.
        epochs: number of epochs.
        accumulate_steps: micro-steps per step, computed one after the other.
        devices: parts of each micro-step, computed in parallel.
    """

    num_images: int
    batch_size: int
    epochs: int
    accumulate_steps: int = 1
    devices: int = 1

    @classmethod
    def of(cls, spec: ExperimentSpec, num_images: int) -> StepPlan:
        """Make the plan of a resolved spec for a train split of ``num_images``.

        Raises:
            SpecError: a batch has fewer images than parts.
        """
        plan = cls(num_images, spec.batch_size, spec.epochs, spec.accumulate_steps, spec.devices)
        check_images_per_part(plan.images_per_step, plan.accumulate_steps, plan.devices)
        return plan

    @property
    def images_per_step(self) -> int:
        """Images of a step's batch."""
        return min(self.batch_size, self.num_images)

    @property
    def num_parts(self) -> int:
        """Parts per batch."""
        return self.accumulate_steps * self.devices

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches per epoch; the remainder left out differs between epochs."""
        return max(1, self.num_images // self.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the run."""
        return self.steps_per_epoch * self.epochs

    def batch_indices(self, seed: int, step: int) -> Tensor:
        """Return the images of step ``step`` (from 0): int64 indices, ``(images_per_step,)``."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _epoch_order(self.num_images, seed, epoch)
        return order[position * self.batch_size :][: self.batch_size]

    def rows(self, micro_step: int, rank: int) -> slice:
        """Return the slice of its step's batch that a device computes in a micro-step.

        Args:
            micro_step: micro-step of the run, from 0; a step has ``accumulate_steps`` of them.
            rank: rank of the device, from 0.
        """
        part = micro_step % self.accumulate_steps * self.devices + rank
        images, parts = self.images_per_step, self.num_parts
        return slice(images * part // parts, images * (part + 1) // parts)

    def ends_step(self, micro_step: int) -> bool:
        """Return True if the optimiser steps after ``micro_step``."""
        return (micro_step + 1) % self.accumulate_steps == 0

    def micro_steps(self, first_step: int) -> RemainingMicroSteps:
        """Return the micro-steps from step ``first_step`` (from 0) to the end."""
        each = self.accumulate_steps
        return RemainingMicroSteps(first_step * each, self.total_steps * each)


@lru_cache(maxsize=2)
def _epoch_order(num_images: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(num_images, generator=generator(seed, "order", epoch))


@dataclass(frozen=True)
class RemainingMicroSteps:
    """Data loader for Lightning that yields micro-step numbers from ``first``."""

    first: int
    total: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.total))

    def __len__(self) -> int:
        return self.total - self.first
