"""Splits and subsets that do not leak.

They are the data set's, not the run's: runs of any seed see the same images in the same split.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pmae.data.images import Split
from pmae.seeding import generator

_SPLIT_SEED = 0


def carve(split: Split, share: float, index: int) -> tuple[Split, Split]:
    """Cut ``share`` of every class off; of all images where they have several binary labels.

    Args:
        split: what to cut.
        share: of the images of each class, at least one image of a class that has two, and never
            all of them.
        index: which cut of the data set it is, so that two cuts differ.

    Returns:
        ``(rest, cut)``, disjoint, together all of ``split``, each in the order of ``split``.
    """
    order = torch.randperm(len(split), generator=generator(_SPLIT_SEED, "split", index))
    cut = torch.zeros(len(split), dtype=torch.bool)
    for members in _by_class(split.labels, order):
        if len(members) > 1:
            size = min(max(1, round(share * len(members))), len(members) - 1)
            cut[members[:size]] = True
    return split.select((~cut).nonzero()[:, 0]), split.select(cut.nonzero()[:, 0])


def hold_out(split: Split, share: float, index: int, *, wanted: bool) -> tuple[Split, Split]:
    """:func:`carve` a validation split off; or keep all images, with a validation split of none."""
    return carve(split, share, index) if wanted else (split, nothing(split))


def nothing(split: Split) -> Split:
    """A split of the same kind without images."""
    return split.select(torch.zeros(0, dtype=torch.int64))


def subset(split: Split, size: int) -> Split:
    """At most ``size`` images, classes as balanced as they can be, in the order of ``split``."""
    if size >= len(split):
        return split
    order = torch.randperm(len(split), generator=generator(_SPLIT_SEED, "subset"))
    rank_in_class = torch.empty(len(split), dtype=torch.int64)
    for members in _by_class(split.labels, order):
        rank_in_class[members] = torch.arange(len(members))
    by_turns = order[torch.argsort(rank_in_class[order], stable=True)[:size]]
    return split.select(by_turns.sort().values)


def _by_class(labels: Tensor, order: Tensor) -> list[Tensor]:
    """The indices of each class, in ``order``; one list of all where labels are binary."""
    if labels.ndim == 2:
        return [order]
    ordered = labels[order]
    positions = torch.argsort(ordered, stable=True)
    counts = torch.bincount(ordered) if len(ordered) else torch.zeros(0, dtype=torch.int64)
    return [members for members in order[positions].split(counts.tolist()) if len(members)]
