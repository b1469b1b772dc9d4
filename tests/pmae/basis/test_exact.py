"""Products with a basis are IEEE fp32 under autocast and under every setting of torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pmae.basis.basis import Basis
from pmae.basis.exact import exact_product, ieee_fp32
from pmae.methods.pmae import PMAE

CPU = torch.device("cpu")
SIZE = 64


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    """Torch's default, before and after."""
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision("highest")


def _newer_interface() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


SETTINGS: list[Callable[[], None]] = [
    lambda: torch.set_float32_matmul_precision("high"),
    lambda: torch.set_float32_matmul_precision("medium"),
    _newer_interface,
]


class Products(TorchDispatchMode):
    """Records with which settings and types each matrix product is computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[str, bool, torch.dtype]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.mm.default:
            setting = torch.backends.cuda.matmul.fp32_precision
            self.seen.append((setting, torch.is_autocast_enabled("cpu"), args[0].dtype))
        return func(*args, **(kwargs or {}))


def _method() -> PMAE:
    noise = torch.Generator().manual_seed(0)
    components = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=noise)).Q
    share = 0.9 ** torch.arange(SIZE, dtype=torch.float64)
    return PMAE(Basis(components, share / share.sum()))


def _step(method: PMAE, masked: Tensor) -> list[Tensor]:
    """What the encoder sees, the loss, what is explained, and the loss's gradient."""
    noise = torch.Generator().manual_seed(1)
    images, prediction = torch.randn(2, 8, 1, 8, 8, generator=noise)
    prediction.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        batch = method.project(images, masked)
        score = method.score(prediction, batch)
    (gradient,) = torch.autograd.grad(score.loss, prediction)
    residual, target = method.mean_squares(prediction.detach(), batch)
    return [batch.visible, score.loss.detach(), score.residual, gradient, residual, target]


@pytest.mark.parametrize("setting", SETTINGS, ids=["high", "medium", "newer"])
@pytest.mark.parametrize("per_image", [False, True])
def test_no_setting_changes_a_bit_of_what_is_masked_or_lost(
    per_image: bool, setting: Callable[[], None]
) -> None:
    shape = (8, SIZE) if per_image else (SIZE,)
    masked = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.4
    expected = _step(_method(), masked)
    setting()
    with Products() as products:
        found = _step(_method(), masked)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    of_fp32 = [each for each in products.seen if each[2] != torch.float64]
    assert len(of_fp32) >= 5, "forward and backward"
    assert set(of_fp32) == {("ieee", False, torch.float32)}


@pytest.mark.parametrize("setting", SETTINGS, ids=["high", "medium", "newer"])
def test_the_models_own_products_keep_the_setting(setting: Callable[[], None]) -> None:
    setting()
    before = torch.backends.cuda.matmul.fp32_precision
    with ieee_fp32(CPU), ieee_fp32(CPU):
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == before == "tf32"
    if setting is not _newer_interface:
        level = torch.get_float32_matmul_precision()
        assert level == ("high" if setting is SETTINGS[0] else "medium")


def test_a_thread_that_leaves_lets_no_tf32_into_anothers_products() -> None:
    torch.set_float32_matmul_precision("high")
    entered, left, found = threading.Event(), threading.Event(), []

    def other() -> None:
        with ieee_fp32(CPU):
            entered.set()
            assert left.wait(10)
            found.append(torch.backends.cuda.matmul.fp32_precision)

    thread = threading.Thread(target=other)
    with ieee_fp32(CPU):
        thread.start()
        assert entered.wait(10)
    left.set()
    thread.join()
    assert found == ["ieee"]
    assert torch.get_float32_matmul_precision() == "high"


def test_the_gradient_is_that_of_the_product() -> None:
    left, right = torch.randn(3, 5, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    ours = left.clone().requires_grad_()
    theirs = left.clone().requires_grad_()
    exact_product(ours, right.float()).square().sum().backward()
    (theirs @ right).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-5)
