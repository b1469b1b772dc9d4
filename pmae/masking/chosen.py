"""Masks that somebody wrote down, and how a drawn one is written down."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pmae.errors import SpecError

Selection = Sequence[int | tuple[int, int]]
"""Indices from 0, and ranges ``(first, last)`` that hold both ends."""


def chosen_mask(selection: Selection, num_total: int, *, what: str) -> Tensor:
    """The mask of exactly these components or patches.

    Args:
        selection: what to mask; overlaps count once.
        num_total: how many components or patches there are.
        what: ``components`` or ``patches``, the name of the field that an error is about.

    Returns:
        bool ``(num_total,)``.

    Raises:
        SpecError: an index that does not exist, a range that runs backwards, or a selection of
            nothing or of everything.
    """
    masked = torch.zeros(num_total, dtype=torch.bool)
    for part in selection:
        first, last = (part, part) if isinstance(part, int) else part
        if not 0 <= first <= last < num_total:
            raise SpecError(
                f"{what}: {_written(part)} is not among the {num_total} {what} of this run; valid "
                f"are numbers from 0 to {num_total - 1} and ranges [first, last] of them",
                field=(what,),
            )
        masked[first : last + 1] = True
    count = int(masked.sum())
    if not 0 < count < num_total:
        said = "all" if count else "none"
        raise SpecError(
            f"{what}: {said} of the {num_total} {what} would be masked; valid are 1 to "
            f"{num_total - 1}, so that something is asked for and something is seen",
            field=(what,),
        )
    return masked


def selection_of(masked: Tensor) -> list[int | tuple[int, int]]:
    """Write a mask down, the inverse of :func:`chosen_mask`.

    Args:
        masked: bool ``(num_total,)``, True = masked.

    Returns:
        Rising numbers, and ranges ``(first, last)`` of neighbours that hold both ends.
    """
    padded = torch.nn.functional.pad(masked.to(torch.int8), (1, 1)).diff()
    firsts = (padded == 1).nonzero()[:, 0].tolist()
    lasts = ((padded == -1).nonzero()[:, 0] - 1).tolist()
    ranges = zip(firsts, lasts, strict=True)
    return [first if first == last else (first, last) for first, last in ranges]


def _written(part: int | tuple[int, int]) -> str:
    return str(part) if isinstance(part, int) else f"[{part[0]}, {part[1]}]"
