"""The paper's published figures (arXiv 2502.06314, Table 1, ViT-T), copied by hand.

This project did not measure them: they are always labelled as published, and never stand in one
column with measured figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SOURCE = "arXiv 2502.06314, Table 1, ViT-T"
DATASETS = ("cifar10", "tiny_imagenet", "dermamnist", "bloodmnist", "pathmnist")
PROBES = ("linear", "mlp", "finetune")
ROWS = (("mae", "std"), ("mae", "ocl"), ("pmae", "ocl"), ("mae", "rd"), ("pmae", "rd"))
"""Method and ratio: ``std`` 0.75, ``ocl`` the best for the task, ``rd`` drawn for each batch."""
METHODS = {"pmae": "PMAE", "mae": "MAE"}
"""The paper's names for its methods."""
STD = ("mae", 0.75)
"""Method and ratio of ``std``."""
RANDOM_RATIO = (0.1, 0.9)
"""Range of the ratio of ``rd``."""
_TOP1 = {
    "linear": """
        41.7 11.5 72.4 73.4 83.4
        50.7 15.5 73.7 78.6 86.4
        59.0 22.5 78.6 95.5 96.8
        41.9  7.5 72.4 83.2 85.6
        44.0 16.9 76.4 90.0 90.1""",
    "mlp": """
        34.0 15.5 72.2 68.6 92.6
        55.2 22.2 74.4 75.8 95.1
        64.1 25.1 80.2 92.5 98.6
        38.5 11.6 66.9 70.6 95.7
        47.0 22.6 77.4 80.2 97.7""",
    "finetune": """
        75.7 37.5 80.4 97.8 99.7
        80.5 42.8 79.9 98.1 99.7
        84.8 44.5 82.3 98.1 99.7
        77.3 39.7 79.6 97.4 99.6
        80.4 46.9 82.4 98.5 99.7""",
}


@dataclass(frozen=True)
class PublishedFigure:
    """One cell of the paper's table; ``top1`` in percent."""

    protocol: str
    method: str
    variant: str
    dataset: str
    top1: float


def published() -> Iterator[PublishedFigure]:
    """All cells of the table, row by row."""
    for protocol in PROBES:
        rows = _TOP1[protocol].split("\n")[1:]
        for (method, variant), row in zip(ROWS, rows, strict=True):
            for dataset, top1 in zip(DATASETS, row.split(), strict=True):
                yield PublishedFigure(protocol, method, variant, dataset, float(top1))


def published_top1(method: str, variant: str, dataset: str) -> dict[str, float]:
    """Look up published figures by protocol, in percent; empty if the paper has none."""
    wanted = (method, variant, dataset)
    return {
        figure.protocol: figure.top1
        for figure in published()
        if (figure.method, figure.variant, figure.dataset) == wanted
    }
