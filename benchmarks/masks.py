"""Measure the host time of drawing a mask for each image (``masking.scope: image``).

    python -m benchmarks.masks       # prints the rows; benchmarks.run records them

One thread, 512 images, ratio 0.2 of the variance, medians of processor time, in turns. The peer
draws the same masks straight from the definition: torch sorts the noise of all images at once, and
sums the variances in that order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.figure import Figure, median_cpu_seconds
from pmae.masking import random_component_mask
from pmae.seeding import generator

IMAGES, RATIO = 512, 0.2
COMPONENTS = (3_072, 12_288)
"""Components of colour images of 32 and of 64 pixels."""
PEER = "torch.argsort and cumsum"
ROUNDS = 5


def figures(components: Sequence[int] = COMPONENTS, images: int = IMAGES) -> list[Figure]:
    """Measure a row for each number of components, in milliseconds for the whole batch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_figure(count, images) for count in components]
    finally:
        torch.set_num_threads(threads)


def _figure(num_components: int, images: int) -> Figure:
    shares = 0.999 ** torch.arange(num_components, dtype=torch.float64)
    shares /= shares.sum()

    def ours() -> Tensor:
        return random_component_mask(
            shares, RATIO, generator(0, "mask"), count="nearest", batch=images
        )

    def plain() -> Tensor:
        return _plain(shares, images)

    if not torch.equal(ours(), plain()):
        raise AssertionError("the two draw different masks")
    mine, theirs = median_cpu_seconds(ROUNDS, ours, plain)
    return Figure(
        f"masks of {images} images, one each, {num_components:,} components",
        "ms",
        1000 * mine,
        PEER,
        1000 * theirs,
        theirs / mine,
    )


def _plain(shares: Tensor, images: int) -> Tensor:
    """Mask the components whose sum comes nearest to the ratio, the smaller of two equal numbers.

    Args:
        shares: ``(num_components,)`` float64, explained variance ratios.
        images: number of masks.

    Returns:
        bool ``(images, num_components)``.
    """
    noise = torch.rand(images, len(shares), generator=generator(0, "mask"), dtype=torch.float64)
    order = noise.argsort(dim=1)
    miss = (shares[order].cumsum(dim=1) - RATIO).abs()
    last = miss[:, :-1].argmin(dim=1, keepdim=True)
    masked = torch.zeros(images, len(shares), dtype=torch.bool)
    return masked.scatter_(1, order, torch.arange(len(shares)) <= last)


if __name__ == "__main__":
    print("| figure | ours | peer | ratio | goal |\n|---|---|---|---|---|")
    for figure in figures():
        print(figure.row())
