"""Measure the fit of a basis: time and memory beside scikit-learn's, and growth with image size.

Memory is the peak of a separate process minus that of its imports. Ours streams its images; the
peers need all images in memory, which counts. Threads: the machine's default.

``python -m benchmarks.bases CASE`` measures one case in this process and prints it as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import sklearn
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional

from benchmarks.figure import Figure, median_seconds, peak_bytes
from pmae.basis.pca import fit_pca, fit_randomized_pca

IMAGES, EDGE = 20_000, 32
"""The comparison: 20,000 images of 3 x 32 x 32 values."""
LARGE_IMAGES, LARGE_EDGE = 2048, 64
HUGE_IMAGES, HUGE_EDGE, HUGE_COMPONENTS = 1280, 224, 1024
MIB_LIMIT, LARGE_MIB_LIMIT = 500, 8 * 1024
_SKLEARN = f"scikit-learn {sklearn.__version__}"


def pictures(count: int, edge: int, batch: int = 128) -> Iterator[Tensor]:
    """Draw synthetic images ``(batch, 3, edge, edge)`` with a spectrum like natural images'.

    They are sums of noise at several resolutions, weaker at finer ones, and equal at each call.
    """
    scales = [size for size in (2, 4, 8, 16, 32) if size < edge]
    for start in range(0, count, batch):
        noise = torch.Generator().manual_seed(start)
        rows = min(batch, count - start)
        images = 0.05 * torch.randn(rows, 3, edge, edge, generator=noise)
        for size in scales:
            coarse = torch.randn(rows, 3, size, size, generator=noise) / size
            images += functional.interpolate(coarse, size=(edge, edge), mode="bilinear")
        yield images


def _table() -> Tensor:
    return torch.cat(list(pictures(IMAGES, EDGE))).flatten(1)


def _randomized() -> object:
    return fit_randomized_pca(
        lambda: pictures(HUGE_IMAGES, HUGE_EDGE),
        num_components=HUGE_COMPONENTS,
        generator=torch.Generator().manual_seed(0),
    )


CASES: dict[str, Callable[[], object]] = {
    "pca": lambda: fit_pca(pictures(IMAGES, EDGE)),
    "sklearn_full": lambda: PCA(svd_solver="full").fit(_table().numpy()),
    "sklearn_covariance_eigh": lambda: PCA(svd_solver="covariance_eigh").fit(_table().numpy()),
    "pca_12288": lambda: fit_pca(pictures(LARGE_IMAGES, LARGE_EDGE)),
    "randomized_150528": _randomized,
}


def in_a_process(case: str) -> tuple[float, float]:
    """Measure a case in a separate process: seconds, and peak memory in MiB above its imports."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bases", case], capture_output=True, text=True, check=True
    )
    seconds, mib = json.loads(done.stdout)
    return seconds, mib


def fit_times() -> list[Figure]:
    """Measure covariance and ``eigh`` in one pass beside two of scikit-learn's solvers."""
    images = _table()
    table = images.numpy()
    ours, full, covariance = median_seconds(
        3,
        lambda: fit_pca(images.split(1024)),
        lambda: PCA(svd_solver="full").fit(table),
        lambda: PCA(svd_solver="covariance_eigh").fit(table),
    )
    name = f"PCA fit, {IMAGES:,} x {3 * EDGE**2:,}"
    return [
        _figure(name, "s", ours, f"{_SKLEARN} PCA(svd_solver='full')", full, 4),
        _figure(name, "s", ours, f"{_SKLEARN} PCA(svd_solver='covariance_eigh')", covariance, 1),
    ]


def fit_memory() -> list[Figure]:
    """Measure peak memory beside scikit-learn's; ours does not depend on the number of images."""
    _, ours = in_a_process("pca")
    figures = [_limit(f"PCA fit, {IMAGES:,} x {3 * EDGE**2:,}, memory", ours, MIB_LIMIT)]
    for solver in ("full", "covariance_eigh"):
        _, peer = in_a_process(f"sklearn_{solver}")
        name = f"{_SKLEARN} PCA(svd_solver='{solver}') with its table"
        figures.append(_figure(figures[0].name, "MiB", ours, name, peer, 1))
    return figures


def growth() -> list[Figure]:
    """Measure memory of the largest exact basis, and of a truncated one of 224 x 224 x 3 values."""
    seconds, mib = in_a_process("pca_12288")
    exact = f"exact PCA, {LARGE_IMAGES:,} x {3 * LARGE_EDGE**2:,} ({seconds:.0f} s), memory"
    figures = [_limit(exact, mib, LARGE_MIB_LIMIT)]
    seconds, mib = in_a_process("randomized_150528")
    truncated = (
        f"randomised PCA, {HUGE_IMAGES:,} x {3 * HUGE_EDGE**2:,}, {HUGE_COMPONENTS:,} components "
        f"({seconds:.0f} s), memory"
    )
    return [*figures, _limit(truncated, mib, LARGE_MIB_LIMIT)]


def _figure(name: str, unit: str, ours: float, peer_name: str, peer: float, goal: float) -> Figure:
    ratio = peer / ours
    return Figure(name, unit, ours, peer_name, peer, ratio, goal, ratio >= goal)


def _limit(name: str, mib: float, limit: float) -> Figure:
    return _figure(name, "MiB", mib, "the limit", limit, 1)


def main() -> None:
    """Measure one case in this process."""
    before = peak_bytes()
    began = time.perf_counter()
    CASES[sys.argv[1]]()
    seconds = time.perf_counter() - began
    print(json.dumps([seconds, (peak_bytes() - before) / 2**20]))


if __name__ == "__main__":
    main()
