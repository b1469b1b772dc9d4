"""PMAE's masks on the crops, without a model: spectrum, counts and pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.basis.fit import fit_basis
from pmae.data.images import ImageData
from pmae.data.registry import load_data
from pmae.data.transforms.floor import train_statistics
from pmae.data.transforms.standardize import PixelStatistics
from pmae.inference.pictures import columns_png
from pmae.inference.reconstruct import Parts, panels
from pmae.methods.pmae import PMAE
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, resolve
from pmae.spec.parts.masking import Count

RATIOS = (0.1, 0.2, 0.4)
_SHOWN_RATIO, _SHOWN_CROPS = 0.2, 6
SHARES = (0.5, 0.9, 0.99)
_DRAWS = 1000
_MAX_EXACT = 4096
_KEPT = 1024
"""Components to keep for larger images, whose exact basis takes minutes."""


@dataclass(frozen=True)
class Fitted:
    """The crops at a resolution, and their basis.

    Attributes:
        spec: of a run on the crops; resolved.
        seconds: duration of the fit.
    """

    spec: ExperimentSpec
    data: ImageData
    statistics: PixelStatistics
    basis: Basis
    seconds: float


def fit(dataset: str, resolution: int, settings: StorageSettings) -> Fitted:
    """Read the crops and fit the basis that a run with default settings would have."""
    fields: dict[str, object] = {
        "dataset": {"name": dataset, "resolution": resolution},
        "model": {"patch_size": resolution // 4},
    }
    if 3 * resolution**2 > _MAX_EXACT:
        fields["basis"] = {"solver": "randomized", "num_components": _KEPT}
    spec = resolve(ExperimentSpec.model_validate(fields))
    data = load_data(spec.dataset, settings)
    statistics, _ = train_statistics(data.train, spec.dataset.std_floor, spec.augmentation)
    start = time.perf_counter()
    basis = fit_basis(spec, data.train, statistics, lambda _done, _total: None)
    return Fitted(spec, data, statistics, basis, time.perf_counter() - start)


def spectrum_lines(fitted: Fitted) -> list[str]:
    """Report the spectrum, and the number of components that each ratio masks by either rule."""
    basis, ratios = fitted.basis, fitted.basis.explained_variance_ratio
    reached = ratios.cumsum(dim=0)
    shares = (f"{share:.0%} of the variance in {_reach(reached, share)}" for share in SHARES)
    size = f"{fitted.spec.resolution} pixels: {len(fitted.data.train)} crops"
    held = f"{basis.num_components} components explain {basis.spanned_variance:.1%}"
    lines = [
        f"{size} of {basis.num_pixels} values; {held}, fitted in {fitted.seconds:.1f} s",
        f"  first component {float(ratios[0]):.1%}; {'; '.join(shares)}",
        "  ratio  rule       masked: median    min   max        of variance  first masked",
    ]
    for ratio in RATIOS:
        for count in get_args(Count):
            masked = draws(fitted, ratio, count)
            sizes, share = masked.sum(dim=1), float((ratios * masked).sum(dim=1).mean())
            lines.append(
                f"  {ratio:<6} {count:<10} {int(sizes.median()):>14} {int(sizes.min()):>6} "
                f"{int(sizes.max()):>5} {share:>18.3f} {float(masked[:, 0].double().mean()):>13.1%}"
            )
    return lines


def draws(fitted: Fitted, ratio: float, count: Count, number: int = _DRAWS) -> Tensor:
    """Draw the masks of many steps: bool ``(number, num_components)``."""
    masking = fitted.spec.masking.model_copy(
        update={"ratio": ratio, "count": count, "scope": "image"}
    )
    noise = torch.Generator().manual_seed(0)
    return PMAE(fitted.basis).draw(number, masking, noise).masked


def masked_sheet(fitted: Fitted) -> bytes:
    """Draw crops with the visible and the masked part by each rule, as a PNG."""
    rows = torch.linspace(0, len(fitted.data.test) - 1, _SHOWN_CROPS).long()
    images = fitted.statistics.standardize(fitted.data.test.take(rows).images / 255)
    method = PMAE(fitted.basis)
    columns: list[tuple[str, list[np.ndarray]]] = []
    for count in get_args(Count):
        masked = draws(fitted, _SHOWN_RATIO, count, len(images))
        target = method.masked_projection(images, masked)
        parts = Parts(images, target, prediction=torch.zeros_like(target), masked=masked)
        pictures = panels(parts, fitted.statistics)
        if not columns:
            columns.append(("original", list(pictures["original"])))
        columns += [(f"{count}: {name}", list(pictures[name])) for name in ("visible", "target")]
    return columns_png(columns)


def _reach(reached: Tensor, share: float) -> str:
    found = int((reached < share).sum()) + 1
    return str(found) if found <= len(reached) else f"more than {len(reached)}"
