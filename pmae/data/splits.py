"""Disjoint splits, and subsets of them.

They do not depend on the run's seed, so that all runs have the same images in the same split.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pmae.data.images import Split
from pmae.seeding import generator

_SPLIT_SEED = 0


def carve(split: Split, fraction: float, index: int) -> tuple[Split, Split]:
    """Split off a ``fraction`` of every class; of all images if they have several binary labels.

    Args:
        split: to divide.
        fraction: of the images of each class; at least one of a class with two, and never all.
        index: number of the division, so that two divisions of a data set differ.

    Returns:
        ``(rest, cut)``: a partition of ``split``, each part in its order.
    """
    order = torch.randperm(len(split), generator=generator(_SPLIT_SEED, "split", index))
    cut = torch.zeros(len(split), dtype=torch.bool)
    for members in _by_class(split.labels, order):
        if len(members) > 1:
            size = min(max(1, round(fraction * len(members))), len(members) - 1)
            cut[members[:size]] = True
    return split.select((~cut).nonzero()[:, 0]), split.select(cut.nonzero()[:, 0])


def hold_out(split: Split, fraction: float, index: int, *, wanted: bool) -> tuple[Split, Split]:
    """:func:`carve` off a validation split if it is ``wanted``, else make an empty one."""
    return carve(split, fraction, index) if wanted else (split, nothing(split))


def nothing(split: Split) -> Split:
    """Make an empty split of the same kind."""
    return split.select(torch.zeros(0, dtype=torch.int64))


def subset(split: Split, size: int) -> Split:
    """Choose at most ``size`` images, with balanced classes, in the order of ``split``."""
    if size >= len(split):
        return split
    order = torch.randperm(len(split), generator=generator(_SPLIT_SEED, "subset"))
    rank_in_class = torch.empty(len(split), dtype=torch.int64)
    for members in _by_class(split.labels, order):
        rank_in_class[members] = torch.arange(len(members))
    round_robin = order[torch.argsort(rank_in_class[order], stable=True)[:size]]
    return split.select(round_robin.sort().values)


def _by_class(labels: Tensor, order: Tensor) -> list[Tensor]:
    """The indices of each class, in ``order``; all in one list if labels are binary."""
    if labels.ndim == 2:
        return [order]
    ordered = labels[order]
    positions = torch.argsort(ordered, stable=True)
    counts = torch.bincount(ordered) if len(ordered) else torch.zeros(0, dtype=torch.int64)
    return [members for members in order[positions].split(counts.tolist()) if len(members)]
