"""Copies between host and device that nobody waits for."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from pmae.errors import NonFiniteLossError

T = TypeVar("T")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to ``device``; a GPU goes on computing meanwhile."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def host_copy(tree: T) -> T:
    """Copy every tensor of nested containers to the host, without its gradient.

    A GPU's are copied side by side to pinned memory, and waited for together. Those of a CPU are
    copied too: what trains on does not change the copy.
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
    """The losses of steps, each read when the step after it is under way.

    A GPU computes behind the process that feeds it. Reading a loss at once would let it run dry at
    every step, so a step's loss starts on its way to the host when it is known, and is looked at a
    step later, or when somebody asks.
    """

    def __init__(self) -> None:
        self._pending: tuple[int, Tensor, torch.cuda.Event | None] | None = None
        self.last = math.nan
        """The loss of the last step that was read."""

    def put(self, step: int, loss: Tensor) -> None:
        """Take a step's loss, and read that of the step before.

        Args:
            step: steps finished with this one.
            loss: a scalar on any device.

        Raises:
            NonFiniteLossError: the loss of the step before is NaN or infinite.
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
        """The newest loss, waited for.

        Raises:
            NonFiniteLossError: it is NaN or infinite.
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
