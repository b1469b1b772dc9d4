"""Reconstructions, computed in a thread pool with a bounded queue.

torch is imported for the first one, and limited to one thread, so that training on the same machine
keeps the other cores.
"""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from api.checkpoints.service import StoredCheckpoint
from api.http.errors import BusyError, ConflictError, InvalidRequestError
from api.http.validation import spec_error_field
from api.reconstructions.uploads import decode_uploaded
from api.settings import ApiSettings
from pmae.errors import BasisError, CheckpointError, DataError, SpecError
from pmae.inference.pictures import encode_png, sheet_png
from pmae.runs.layout import MANIFEST_FILE
from pmae.schema import (
    ReconstructedImage,
    Reconstruction,
    ReconstructionRequest,
    Residuals,
    UploadedImages,
)
from pmae.schema.reconstructions import MOST_RESIDUALS

if TYPE_CHECKING:
    from pmae.inference.checkpoint import LoadedCheckpoint
    from pmae.inference.model import MaskOptions
    from pmae.inference.reconstruct import ReconstructionResult

RETRY_AFTER_SECONDS = 2
WrittenMask = list[int | tuple[int, int]]
_T = TypeVar("_T")


class Reconstructor:
    """Loads checkpoints and reconstructs with them. Use it in a ``with`` block."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.reconstruction_workers, "reconstruction")
        self._places = threading.BoundedSemaphore(settings.reconstruction_queue)
        self._loaded: OrderedDict[tuple[str, int], LoadedCheckpoint] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def as_json(
        self, checkpoint: StoredCheckpoint, request: ReconstructionRequest
    ) -> Future[Reconstruction]:
        """Start a reconstruction with a PNG for each panel.

        Raises:
            BusyError: the queue is full.
        """
        return self._submit(lambda: _wire(checkpoint, request, self._compute(checkpoint, request)))

    def as_png(self, checkpoint: StoredCheckpoint, request: ReconstructionRequest) -> Future[bytes]:
        """Start a reconstruction with all panels on one labelled sheet.

        Raises:
            BusyError: the queue is full.
        """
        return self._submit(lambda: sheet_png(self._compute(checkpoint, request).panels))

    def _submit(self, work: Callable[[], _T]) -> Future[_T]:
        if not self._places.acquire(blocking=False):
            raise BusyError(
                f"{self._settings.reconstruction_queue} reconstructions are under way or waiting; "
                f"try again in {RETRY_AFTER_SECONDS} s",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        try:
            future = self._pool.submit(work)
        except BaseException:
            self._places.release()
            raise
        future.add_done_callback(lambda _: self._places.release())
        return future

    def _compute(
        self, checkpoint: StoredCheckpoint, request: ReconstructionRequest
    ) -> ReconstructionResult:
        """Decode the images and reconstruct; runs in the pool.

        Raises:
            InvalidRequestError: no such image, component or patch, an invalid uploaded image, or a
                masking that does not fit the run's method.
            NotFoundError: the checkpoint was removed.
            ConflictError: it is damaged, or its basis or data set is missing.
        """
        mask: MaskOptions = {
            "masking": request.masking,
            "components": request.components,
            "patches": request.patches,
            "seed": request.seed,
        }
        images = request.images
        try:
            loaded = self._load(checkpoint)
            if isinstance(images, UploadedImages):
                return loaded.model.picture(decode_uploaded(images, loaded.model), **mask)
            return loaded.reconstruct(split=images.split, indices=images.indices, **mask)
        except SpecError as error:
            raise InvalidRequestError(str(error), fields=[spec_error_field(error)]) from error
        except (CheckpointError, BasisError, DataError) as error:
            if not (checkpoint.folder / MANIFEST_FILE).is_file():
                raise checkpoint.gone() from error
            raise ConflictError(str(error), code="checkpoint_unusable") from error

    def _load(self, checkpoint: StoredCheckpoint) -> LoadedCheckpoint:
        """Load a checkpoint, or reuse the loaded one if its manifest has not changed."""
        import torch

        from pmae.inference.checkpoint import LoadedCheckpoint

        torch.set_num_threads(1)
        try:
            written = (checkpoint.folder / MANIFEST_FILE).stat().st_mtime_ns
        except FileNotFoundError:
            raise checkpoint.gone() from None
        key = (checkpoint.view.id, written)
        with self._lock:
            loaded = self._loaded.get(key)
            if loaded is not None:
                self._loaded.move_to_end(key)
                return loaded
        loaded = LoadedCheckpoint.load(checkpoint.folder, self._settings)
        with self._lock:
            self._loaded[key] = loaded
            while len(self._loaded) > self._settings.reconstruction_cache:
                self._loaded.popitem(last=False)
        return loaded


def _wire(
    checkpoint: StoredCheckpoint, request: ReconstructionRequest, result: ReconstructionResult
) -> Reconstruction:
    asked = request.images
    shared, masks = _masks(result)
    explained = result.mean_squares.explained()
    of_images = result.mean_squares.explained_per_image()
    images = [
        ReconstructedImage(
            index=row if isinstance(asked, UploadedImages) else asked.indices[row],
            label=result.labels[row] if result.labels is not None else None,
            panels={
                name: base64.b64encode(encode_png(panel[row])).decode("ascii")
                for name, panel in result.panels.items()
            },
            masked_error=error,
            explained_variance=of_images[row].whole,
            explained_variance_by_band=of_images[row].bands,
            masked=masks[row] if masks is not None else None,
        )
        for row, error in enumerate(result.masked_error)
    ]
    return Reconstruction(
        checkpoint_id=checkpoint.view.id,
        run_id=checkpoint.view.run_id,
        step=checkpoint.view.step,
        epoch=checkpoint.view.epoch,
        method=checkpoint.method,
        parts=result.parts_name,
        seed=request.seed,
        ratio=result.ratio,
        masked_share=result.masked_share,
        num_masked=result.num_masked,
        num_total=result.num_total,
        masked=shared,
        explained_variance=explained.whole,
        explained_variance_by_band=explained.bands,
        images=images,
        residuals=_residuals(result),
    )


def _masks(result: ReconstructionResult) -> tuple[WrittenMask | None, list[WrittenMask] | None]:
    """Return the mask shared by all images, or a list with each image's own."""
    from pmae.masking import selection_of

    masked = result.mean_squares.masked
    if bool((masked == masked[0]).all()):
        return selection_of(masked[0]), None
    return None, [selection_of(row) for row in masked]


def _residuals(result: ReconstructionResult) -> Residuals:
    """Keep the first residuals, rounded to 5 significant digits."""
    index, residual, target = (part[:MOST_RESIDUALS] for part in result.mean_squares.per_part())
    return Residuals(
        index=index.tolist(),
        residual=[float(f"{value:.5g}") for value in residual.tolist()],
        target=[float(f"{value:.5g}") for value in target.tolist()],
    )
