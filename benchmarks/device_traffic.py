"""Count a step's operations on a device, and copies to it, without having one.

Torch's ``meta`` device has shapes but no values. It receives the same operations as a GPU would,
and raises where the host would have to wait for a GPU's result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pmae.runtime.transfer import LateLoss

_COPIES = ("aten::_to_copy", "aten::copy_")


class DeviceTraffic(TorchDispatchMode):
    """Count operations on a device, and copies to it, within a ``with`` block.

    Attributes:
        operations: that compute something, a lower bound on the kernels that a GPU would launch.
        copies: element type and bytes of each copy from the host.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.operations = 0
        self.copies: list[tuple[torch.dtype, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operation."""
        result = func(*args, **(kwargs or {}))
        if not any(self._is_there(leaf) for leaf in tree_leaves(result)):
            return result
        sources = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        host = [source for source in sources if source.device.type == "cpu" and source.ndim]
        if host and func.name() in _COPIES:
            self.copies += [(source.dtype, source.nbytes) for source in host]
        elif not _is_view(func):
            self.operations += 1
        return result

    def _is_there(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.device.type == self.device.type


class Unread(LateLoss):
    """Sink for losses that are never read.

    Attributes:
        steps: whose losses it received.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def put(self, step: int, loss: Tensor) -> None:  # noqa: ARG002 - it has no value
        """Record that a step's loss was received."""
        self.steps.append(step)


def _is_view(func: Any) -> bool:
    """True for a view, which computes nothing."""
    return any(
        returned.alias_info is not None and not returned.alias_info.is_write
        for returned in func._schema.returns  # noqa: SLF001 - torch has no public name for it
    )
