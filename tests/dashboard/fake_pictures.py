"""Pictures as the API gives them: scikit-learn's digits under an exact PCA, and no training."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from sklearn.datasets import load_digits

from pmae.data.untrusted import read_untrusted_image
from pmae.errors import ImageError
from pmae.inference.pictures import component_png, diverging, encode_png, intensity
from pmae.metrics import BANDS
from pmae.schema import (
    Checkpoint,
    FilmFrame,
    Filmstrip,
    ImageChoice,
    Problem,
    ProblemField,
    ReconstructedImage,
    Reconstruction,
    ReconstructionRequest,
    Residuals,
    Run,
    Spectrum,
    UploadedImages,
)
from pmae.spec import MaskingSpec


class Refusal(Exception):  # noqa: N818
    """An answer that is a problem."""

    def __init__(
        self, status: int, code: str, detail: str, fields: Sequence[ProblemField] = ()
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            title=code, status=status, code=code, detail=detail, errors=list(fields)
        )


class FakePictures:
    """The basis, and what the runs' checkpoints make of images."""

    def component(self, index: int) -> bytes:
        """A component as a PNG."""
        return component_png(self._pca[2][index].reshape(1, 8, 8).astype(np.float32))

    def film(self, newest: Checkpoint, image: int) -> Filmstrip:
        """What a run made of an image by its newest checkpoint."""
        request = ReconstructionRequest.model_validate({"images": {"indices": [image]}})
        epochs = sorted({epoch for epoch in (0, 1, 2, 4, 8, 16, 32, 60) if epoch <= newest.epoch})
        shown = [
            self.reconstruct(newest.model_copy(update={"epoch": epoch}), request).images[0]
            for epoch in epochs
        ]
        return Filmstrip(
            run_id=newest.run_id,
            image=image,
            num_images=8,
            label=str(shown[0].label),
            original=shown[0].panels["original"],
            visible=shown[0].panels["visible"],
            target=shown[0].panels["target"],
            total=len(epochs),
            frames=[
                FilmFrame(
                    step=round(epoch * newest.step / newest.epoch),
                    epoch=epoch,
                    prediction=seen.panels["prediction"],
                    full=seen.panels["full"],
                )
                for epoch, seen in zip(epochs, shown, strict=True)
            ],
        )

    def spectrum(self, run: Run) -> Spectrum:
        """Of a run's basis."""
        if run.basis_digest is None:
            raise Refusal(404, "no_basis", f"the run masks patches ({run.method}): no basis")
        _, ratio, _, _, _ = self._pca
        return Spectrum(
            basis_digest=run.basis_digest,
            kind="pca",
            channels=1,
            resolution=8,
            num_components=64,
            explained_variance_ratio=ratio.tolist(),
        )

    def _chosen(
        self, images: ImageChoice | UploadedImages
    ) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
        """Numbers, standardised pixels ``(n, 64)``, and labels."""
        known, _, _, mean, deviation = self._pca
        if isinstance(images, UploadedImages):
            x = (_decoded(images) - mean) / deviation
            return np.arange(len(x)), x, [None] * len(x)
        indices = np.array(images.indices)
        if indices.max() >= len(known):
            raise Refusal(422, "invalid_request", f"valid images are 0 to {len(known) - 1}")
        return indices, known[indices], [str(label) for label in load_digits().target[indices]]

    @cached_property
    def _pca(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Standardised images, ratios, components (rows), mean, deviation."""
        pixels = load_digits().data / 16
        mean, deviation = pixels.mean(axis=0), np.maximum(pixels.std(axis=0), 0.02)
        x = (pixels - mean) / deviation
        eigenvalues, vectors = np.linalg.eigh(x.T @ x / len(x))
        eigenvalues = np.clip(eigenvalues[::-1], 0, None)
        return x, eigenvalues / eigenvalues.sum(), vectors.T[::-1], mean, deviation

    def reconstruct(self, checkpoint: Checkpoint, request: ReconstructionRequest) -> Reconstruction:
        """The closer to the truth, the more epochs the checkpoint has."""
        _, ratio, components, mean, deviation = self._pca
        indices, x, labels = self._chosen(request.images)
        masked = _masked(request, ratio)
        hidden = components[masked]
        target = x @ hidden.T @ hidden
        blur = math.exp(-checkpoint.epoch / 15)
        noise = np.random.default_rng(1).normal(size=x.shape) @ hidden.T @ hidden
        prediction = (1 - blur) * target + 0.5 * blur * noise
        full = x - target + prediction

        def seen(values: np.ndarray) -> np.ndarray:
            return intensity((values * deviation + mean).reshape(-1, 1, 8, 8))

        def signed(values: np.ndarray) -> np.ndarray:
            limit = np.abs(target * deviation).max(axis=1)
            return diverging((values * deviation).reshape(-1, 1, 8, 8), limit)

        error = np.abs(x - full) * deviation
        panels = {
            "original": seen(x),
            "visible": seen(x - target),
            "target": signed(target),
            "prediction": signed(prediction),
            "full": seen(full),
            "error": intensity((error / error.max()).reshape(-1, 1, 8, 8)),
        }
        squares = ((prediction - target) @ hidden.T) ** 2
        errors = squares.mean(axis=1)
        asked = (target @ hidden.T) ** 2
        begins = (np.cumsum(ratio) - ratio)[masked]
        edges = (0.0, 0.5, 0.8, 0.95, math.inf)
        inside = [(begins >= low) & (begins < high) for low, high in pairwise(edges)]
        bands = {
            band: _explained(squares[:, within], asked[:, within])
            for band, within in zip(BANDS, inside, strict=True)
            if within.any()
        }
        return Reconstruction(
            checkpoint_id=checkpoint.id,
            run_id=checkpoint.run_id,
            step=checkpoint.step,
            epoch=checkpoint.epoch,
            method="pmae",
            parts="components",
            seed=request.seed,
            ratio=_ratio(request),
            masked_share=float(ratio[masked].sum()),
            num_masked=len(masked),
            num_total=64,
            images=[
                ReconstructedImage(
                    index=int(index),
                    label=labels[row],
                    panels={
                        name: base64.b64encode(encode_png(panel[row])).decode()
                        for name, panel in panels.items()
                    },
                    masked_error=float(errors[row]),
                    explained_variance=_explained(squares[row], asked[row]),
                )
                for row, index in enumerate(indices)
            ],
            explained_variance=_explained(squares, asked),
            explained_variance_by_band=bands,
            residuals=Residuals(
                index=masked.tolist(),
                residual=squares.mean(axis=0).tolist(),
                target=((target @ hidden.T) ** 2).mean(axis=0).tolist(),
            ),
        )


def _explained(squares: np.ndarray, asked: np.ndarray) -> float:
    return float(1 - squares.sum() / asked.sum())


def _decoded(images: UploadedImages) -> np.ndarray:
    """As the API decodes files, and refuses them."""
    pixels, faults = [], []
    for place, text in enumerate(images.uploaded):
        data = base64.b64decode(text)
        try:
            pixels.append(read_untrusted_image(data, resolution=8, channels=1, fit="crop"))
        except ImageError as error:
            pointer = f"/images/uploaded/{place}"
            faults.append(ProblemField(pointer=pointer, message=str(error)))
    if faults:
        raise Refusal(422, "invalid_request", "the request is invalid", faults)
    return np.stack(pixels).reshape(-1, 64) / 255


def _masking(request: ReconstructionRequest) -> MaskingSpec:
    return request.masking or MaskingSpec(ratio=0.2)


def _ratio(request: ReconstructionRequest) -> float | None:
    masking = _masking(request)
    return None if request.components or masking.ratio is None else masking.ratio_range[0]


def _masked(request: ReconstructionRequest, ratio: np.ndarray) -> np.ndarray:
    """Which of 64 components, ascending; a block begins where the seed says."""
    if request.components:
        masked: set[int] = set()
        for part in request.components:
            first, last = (part, part) if isinstance(part, int) else part
            if last > 63:
                raise Refusal(422, "invalid_request", f"components: {last} is not among the 64")
            masked.update(range(first, last + 1))
        return np.array(sorted(masked))
    order = {
        "top": np.arange(64),
        "bottom": np.arange(64)[::-1],
        "block": np.arange(request.seed % 8, 64),
    }.get(_masking(request).strategy, np.random.default_rng(request.seed).permutation(64))
    share = np.cumsum(ratio[order])
    wanted = _ratio(request) or 0.3
    return np.sort(order[: int(np.abs(share - wanted).argmin()) + 1])
