"""Tokens picked out of a sequence and put back, with gradients that add nothing up.

The gradient of torch's ``gather`` adds: it cannot know that no token is picked twice. Added up in a
fixed order, as exact resuming needs it, that is slow on a GPU. Here no token is picked twice, so
that each direction is the other's gradient, and both only copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Visible:
    """Which tokens of a sequence are visible: an index, and its inverse.

    Attributes:
        index: int64 ``(batch, num_visible)``; no number stands twice in a row.
        counts: bool ``(batch, num_visible)``, False where an index only fills up its row; None:
            every one counts.
        place: int64 ``(batch, num_tokens)``, where in ``index`` a token stands; 0 if nowhere.
        present: bool ``(batch, num_tokens)``, whether it stands there, and counts.
    """

    index: Tensor
    counts: Tensor | None
    place: Tensor
    present: Tensor

    @classmethod
    def of(cls, index: Tensor, padding: Tensor | None, num_tokens: int) -> Visible:
        """Of an index, and of where it is padded: both ``(batch, num_visible)``."""
        batch, num_visible = index.shape
        counts = None if padding is None else ~padding
        order = torch.arange(num_visible, device=index.device).expand_as(index)
        place = torch.zeros(batch, num_tokens, dtype=torch.int64, device=index.device)
        present = torch.zeros(batch, num_tokens, dtype=torch.bool, device=index.device)
        there = torch.ones_like(index, dtype=torch.bool) if counts is None else counts
        return cls(index, counts, place.scatter(1, index, order), present.scatter(1, index, there))

    def take(self, tokens: Tensor) -> Tensor:
        """The visible ones of ``(batch, num_tokens, dim)``: ``(batch, num_visible, dim)``."""
        taken: Tensor = _Copy.apply(tokens, self.index, self.place, self.counts, self.present)
        return taken

    def put(self, tokens: Tensor) -> Tensor:
        """Tokens ``(batch, num_visible, dim)`` where they belong in the sequence.

        Returns:
            ``(batch, num_tokens, dim)``, zero where there is none or it does not count.
        """
        put: Tensor = _Copy.apply(tokens, self.place, self.index, self.present, self.counts)
        return put


class _Copy(torch.autograd.Function):
    """``out[b, i] = tokens[b, index[b, i]]``, or 0 where ``valid`` is False.

    ``inverse`` and ``inverse_valid`` are the same of the gradient.
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
