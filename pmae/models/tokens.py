"""Gather tokens of a sequence and scatter them back, with gradients that only copy.

The gradient of torch's ``gather`` is a sum, since a token might be gathered twice, and summing in a
fixed order, as exact resumption needs it, is slow on a GPU. Here no token is gathered twice: each
direction is the other's gradient, and both only copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Visible:
    """Indices of the visible tokens of a sequence, and their inverse.

    Attributes:
        index: int64 ``(batch, num_visible)``, distinct within a row.
        counts: bool ``(batch, num_visible)``, False = padding; None: there is none.
        place: int64 ``(batch, num_tokens)``, the position of each token in ``index``; 0 if absent.
        present: bool ``(batch, num_tokens)``, True = in ``index``, and not as padding.
    """

    index: Tensor
    counts: Tensor | None
    place: Tensor
    present: Tensor

    @classmethod
    def of(cls, index: Tensor, padding: Tensor | None, num_tokens: int) -> Visible:
        """Invert an index, given its padding (True = padded): both ``(batch, num_visible)``."""
        batch, num_visible = index.shape
        counts = None if padding is None else ~padding
        order = torch.arange(num_visible, device=index.device).expand_as(index)
        place = torch.zeros(batch, num_tokens, dtype=torch.int64, device=index.device)
        present = torch.zeros(batch, num_tokens, dtype=torch.bool, device=index.device)
        there = torch.ones_like(index, dtype=torch.bool) if counts is None else counts
        return cls(index, counts, place.scatter(1, index, order), present.scatter(1, index, there))

    def take(self, tokens: Tensor) -> Tensor:
        """Gather visible tokens: ``(batch, num_tokens, dim)`` to ``(batch, num_visible, dim)``."""
        taken: Tensor = _Copy.apply(tokens, self.index, self.place, self.counts, self.present)
        return taken

    def put(self, tokens: Tensor) -> Tensor:
        """Scatter tokens ``(batch, num_visible, dim)`` to their places in the sequence.

        Returns:
            ``(batch, num_tokens, dim)``, zero where no visible token belongs.
        """
        put: Tensor = _Copy.apply(tokens, self.place, self.index, self.present, self.counts)
        return put


class _Copy(torch.autograd.Function):
    """``out[b, i] = tokens[b, index[b, i]]``, or 0 where ``valid`` is False.

    ``inverse`` and ``inverse_valid`` do the same for the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        index: Tensor,
        inverse: Tensor,
        valid: Tensor | None,
        inverse_valid: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(inverse, inverse_valid)
        return _rows(tokens, index, valid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        inverse, inverse_valid = ctx.saved_tensors
        return _rows(gradient, inverse, inverse_valid), None, None, None, None


def _rows(tokens: Tensor, index: Tensor, valid: Tensor | None) -> Tensor:
    rows = tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))
    return rows if valid is None else rows.masked_fill_(~valid[:, :, None], 0)
