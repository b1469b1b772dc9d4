"""Matrix products in IEEE fp32, whatever the model computes in.

``x - P x`` must not hold a trace of ``P x``. Computed in bf16 or TF32 it does: each coordinate is
rounded by an amount that depends on which components were masked, and a linear map can tell from
that what they held (docs/training.md).
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

    Torch's setting is one for the whole process. It is taken back when the last thread leaves, so
    that a thread that leaves earlier cannot let TF32 into the products of another.

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
    """``left @ right`` in IEEE fp32, with as exact a gradient for ``left``.

    Args:
        left: ``(n, m)``; what is not fp32 is converted.
        right: ``(m, k)`` fp32, a constant.

    Returns:
        ``(n, k)`` fp32.
    """
    assert not right.requires_grad
    product: Tensor = _ExactProduct.apply(left.float(), right)
    return product


class _ExactProduct(torch.autograd.Function):
    """Backward runs long after the forward's settings were taken back, so it makes its own."""

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
    """Torch's two interfaces to the same setting: the older one, and the newer for each backend."""
    backends = _cuda.fp32_precision, _cpu.fp32_precision
    try:
        return torch.get_float32_matmul_precision(), *backends
    except RuntimeError:  # Set by the newer interface alone, which the older one refuses to tell.
        return None, *backends


def _restore(settings: _Settings) -> None:
    level, cuda, cpu = settings
    if level is not None:
        torch.set_float32_matmul_precision(level)
    _cuda.fp32_precision, _cpu.fp32_precision = cuda, cpu
