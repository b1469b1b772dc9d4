"""Masks as lists of indices and ranges: parse a user's selection, write a drawn mask as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pmae.errors import SpecError

Selection = Sequence[int | tuple[int, int]]
"""Indices from 0, and inclusive ranges ``(first, last)``."""


def chosen_mask(selection: Selection, num_total: int, *, what: str) -> Tensor:
    """Mask exactly the selected components or patches.

    Args:
        selection: indices and ranges to mask; they may overlap.
        num_total: number of components or patches.
        what: ``components`` or ``patches``: the field that an error names.

    Returns:
        bool ``(num_total,)``, True = masked.

    Raises:
        SpecError: an index out of range, a range whose last index is below its first, or a
            selection of none or all.
    """
    masked = torch.zeros(num_total, dtype=torch.bool)
    for part in selection:
        first, last = (part, part) if isinstance(part, int) else part
        if not 0 <= first <= last < num_total:
            raise SpecError(
                f"{what}: {_format(part)} is not among the {num_total} {what} of this run; "
                f"expected numbers from 0 to {num_total - 1}, or ranges [first, last] of them",
                field=(what,),
            )
        masked[first : last + 1] = True
    count = int(masked.sum())
    if not 0 < count < num_total:
        selected = "all" if count else "none"
        raise SpecError(
            f"{what}: {selected} of the {num_total} {what} would be masked; expected 1 to "
            f"{num_total - 1}, so that some are predicted and some are visible",
            field=(what,),
        )
    return masked


def selection_of(masked: Tensor) -> list[int | tuple[int, int]]:
    """List the masked indices; the inverse of :func:`chosen_mask`.

    Args:
        masked: bool ``(num_total,)``, True = masked.

    Returns:
        Ascending indices, with consecutive ones joined to inclusive ranges ``(first, last)``.
    """
    padded = torch.nn.functional.pad(masked.to(torch.int8), (1, 1)).diff()
    firsts = (padded == 1).nonzero()[:, 0].tolist()
    lasts = ((padded == -1).nonzero()[:, 0] - 1).tolist()
    ranges = zip(firsts, lasts, strict=True)
    return [first if first == last else (first, last) for first, last in ranges]


def _format(part: int | tuple[int, int]) -> str:
    return str(part) if isinstance(part, int) else f"[{part[0]}, {part[1]}]"
