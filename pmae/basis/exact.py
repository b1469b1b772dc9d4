"""Matrix products in IEEE fp32, independent of the model's precision.

``x - P x`` must hold no information about ``P x``. In bf16 or TF32 it does: the rounding of each
coordinate depends on the masked components, and a linear map can recover their values from it
(docs/training.md).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_Settings = tuple[str | None, str, str]
_cuda = torch.backends.cuda.matmul
_cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # torch does not declare it
_lock = threading.Lock()
_inside = 0
_before: _Settings | None = None


@contextmanager
def ieee_fp32(device: torch.device) -> Iterator[None]:
    """Compute matrix products of fp32 tensors in fp32: no autocast, no TF32, no bf16.

    Torch's setting is global to the process, so it is restored only when the last thread leaves:
    otherwise the first one to leave would turn TF32 on again for the others.

    Args:
        device: of the tensors.
    """
    _enter()
    try:
        if not torch.amp.is_autocast_available(device.type):
            yield
            return
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        _leave()


def exact_product(left: Tensor, right: Tensor) -> Tensor:
    """Compute ``left @ right``, and the gradient of ``left``, in IEEE fp32.

    Args:
        left: ``(n, m)``, converted to fp32.
        right: ``(m, k)`` fp32, a constant.

    Returns:
        ``(n, k)`` fp32.
    """
    assert not right.requires_grad
    product: Tensor = _ExactProduct.apply(left.float(), right)
    return product


class _ExactProduct(torch.autograd.Function):
    """A matrix product whose backward pass sets the precision again, as autograd runs it later."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(right)
        with ieee_fp32(left.device):
            return left @ right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (right,) = ctx.saved_tensors
        with ieee_fp32(gradient.device):
            return gradient @ right.T, None


def _enter() -> None:
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = _settings()
            torch.set_float32_matmul_precision("highest")
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0 and _before is not None:
            _restore(_before)


def _settings() -> _Settings:
    """Read the precision from torch's two interfaces: the older one, and the one per backend."""
    backends = _cuda.fp32_precision, _cpu.fp32_precision
    try:
        return torch.get_float32_matmul_precision(), *backends
    except RuntimeError:  # The older interface raises where only the newer one was set.
        return None, *backends


def _restore(settings: _Settings) -> None:
    level, cuda, cpu = settings
    if level is not None:
        torch.set_float32_matmul_precision(level)
    _cuda.fp32_precision, _cpu.fp32_precision = cuda, cpu
