"""Asynchronous copies between host and device."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from pmae.errors import NonFiniteLossError

T = TypeVar("T")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to ``device``; a GPU keeps computing meanwhile."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def host_copy(tree: T) -> T:
    """Copy every tensor of nested containers to the host, detached.

    Tensors on a GPU are copied asynchronously to pinned memory, and then waited for together.
    Tensors on the CPU are cloned, so that further training does not change the copy.
    """
    waited_for = set()

    def copy(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.detach()
        if value.device.type != "cuda":
            return value.clone()
        waited_for.add(value.device)
        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        return host.copy_(value, non_blocking=True)

    copied: T = tree_map(copy, tree)
    for device in waited_for:
        torch.cuda.synchronize(device)
    return copied


class LateLoss:
    """Losses of steps, each read while the GPU computes the next step.

    Reading a loss at once would make the process wait for the GPU, and then the GPU for the next
    step. So the copy of a step's loss to the host starts when the step is queued, and is read one
    step later, or on request.
    """

    def __init__(self) -> None:
        self._pending: tuple[int, Tensor, torch.cuda.Event | None] | None = None
        self.last = math.nan
        """The loss of the last step that was read."""

    def put(self, step: int, loss: Tensor) -> None:
        """Queue a step's loss, and read that of the previous step.

        Args:
            step: number of finished steps, this one included.
            loss: scalar tensor on any device.

        Raises:
            NonFiniteLossError: the loss of the previous step is NaN or infinite.
        """
        self.read()
        event = None
        if loss.device.type == "cuda":
            host = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=True)
            loss = host.copy_(loss, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._pending = step, loss, event

    def read(self) -> float:
        """Wait for the newest loss and return it; NaN before the first one.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """
        if self._pending is not None:
            step, loss, event = self._pending
            if event is not None:
                event.synchronize()
            self._pending = None
            self.last = loss.item()
            if not math.isfinite(self.last):
                raise NonFiniteLossError(step)
        return self.last
