"""Client methods for checkpoints: files, reconstructions, evaluations."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from pmae.client.connection import API_PREFIX, Connection, path_of
from pmae.client.download import OpenStream, ProgressCallback, download_file
from pmae.client.errors import DownloadError
from pmae.runs.events import FileFacts
from pmae.runs.layout import MANIFEST_FILE
from pmae.schema import (
    Checkpoint,
    CheckpointKind,
    CheckpointPage,
    Problem,
    Reconstruction,
    ReconstructionRequest,
    Run,
    UploadedImages,
)
from pmae.schema.evaluations import EvaluationRun, EvaluationRunPage
from pmae.spec import EvaluationRequest

_UPLOAD = re.compile(r"/images/uploaded/(\d{1,3})")
RECONSTRUCTION_TIMEOUT_SECONDS = 90.0
"""Long enough for the first request after the service's start, which loads torch and the data."""


class CheckpointMethods(Connection):
    """Methods of :class:`~pmae.client.PmaeClient` for checkpoints."""

    def checkpoints(
        self, run_id: str, *, kind: CheckpointKind | None = None, page_size: int = 50
    ) -> Iterator[Checkpoint]:
        """Iterate over the run's checkpoints, newest first; each page is requested when needed.

        Args:
            run_id: id of the run that wrote them.
            kind: ``kept``, or ``latest`` (the rolling checkpoint); None: both.
            page_size: checkpoints per request.
        """
        path = path_of("runs", run_id, "checkpoints")
        return self._pages(path, CheckpointPage, {"kind": kind, "limit": page_size})

    def checkpoint(self, checkpoint_id: str) -> Checkpoint:
        """Return one checkpoint."""
        return self._read(self._send("GET", path_of("checkpoints", checkpoint_id)), Checkpoint)

    def pin_checkpoint(self, checkpoint_id: str, *, pinned: bool = True) -> Checkpoint:
        """Pin a checkpoint, so that retention does not remove it, or unpin it."""
        path = path_of("checkpoints", checkpoint_id)
        return self._read(self._send("PATCH", path, json={"pinned": pinned}), Checkpoint)

    def delete_checkpoint(self, checkpoint_id: str) -> None:
        """Delete a kept checkpoint that is neither pinned nor needed by a run."""
        self._send("DELETE", path_of("checkpoints", checkpoint_id))

    def evaluate(
        self,
        checkpoint_id: str,
        request: EvaluationRequest | Mapping[str, Any],
        *,
        priority: int = 0,
        idempotency_key: str | None = None,
    ) -> Run:
        """Queue a run that evaluates a kept checkpoint by the protocols of ``request``.

        A lost answer is retried as by :meth:`~pmae.client.runs.RunMethods.submit`, without queuing
        a second run.

        Raises:
            ApiError: there is no such checkpoint, or an evaluation does not fit it.
        """
        if isinstance(request, EvaluationRequest):
            request = request.model_dump(mode="json")
        response = self._send_once(
            path_of("checkpoints", checkpoint_id, "evaluations"),
            idempotency_key,
            params={"priority": priority},
            json=dict(request),
        )
        return self._read(response, Run)

    def evaluation_runs(self, run_id: str, *, page_size: int = 50) -> Iterator[EvaluationRun]:
        """Iterate over the runs that evaluate this run's checkpoints, newest first, with results.

        Each page is requested when needed.

        Args:
            run_id: id of the run whose checkpoints they evaluate.
            page_size: runs per request.
        """
        path = path_of("runs", run_id, "evaluations")
        return self._pages(path, EvaluationRunPage, {"limit": page_size})

    def download_url(
        self, checkpoint_id: str, file_name: str, *, base_url: str | None = None
    ) -> str:
        """Return the URL of a checkpoint's file, for a browser or curl.

        ``base_url`` is the service's address as they reach it; default: this client's.
        """
        path = path_of("checkpoints", checkpoint_id, "files", file_name)
        return f"{(base_url or self.base_url).rstrip('/')}{API_PREFIX}{path}"

    def download(
        self,
        checkpoint_id: str,
        file_name: str,
        destination: Path,
        *,
        progress: ProgressCallback | None = None,
    ) -> Path:
        """Download a checkpoint's file to ``destination`` (a folder: under the file's own name).

        An interrupted download is resumed. The SHA-256 is checked against the checkpoint's
        manifest before the file appears; that of the manifest itself (``manifest.json``) comes
        from the answer's ETag.

        Raises:
            DownloadError: no such file, an interrupted download, or another SHA-256.
        """
        path = path_of("checkpoints", checkpoint_id, "files", file_name)
        facts = self.checkpoint(checkpoint_id).files
        if file_name == MANIFEST_FILE:
            headers = self._send("HEAD", path).headers
            size = int(headers["content-length"])
            facts = {file_name: FileFacts(sha256=headers["etag"].strip('"'), size=size)}
        elif file_name not in facts:
            raise DownloadError(
                f"the checkpoint {checkpoint_id} has no file {file_name!r}; "
                f"expected one of {', '.join([*sorted(facts), MANIFEST_FILE])}"
            )
        if destination.is_dir():
            destination = destination / file_name
        return download_file(self._opening(path), facts[file_name], destination, progress)

    def _opening(self, path: str) -> OpenStream:
        # Uncompressed: Range counts the bytes of the file itself.
        plain = {"Accept-Encoding": "identity"}
        return lambda headers: self._stream(path, plain | headers)

    def reconstruct(
        self,
        checkpoint_id: str,
        request: ReconstructionRequest | None = None,
        *,
        uploads: Sequence[str | Path | bytes] = (),
    ) -> Reconstruction:
        """Reconstruct images under a mask, each panel as a PNG in base64.

        Args:
            checkpoint_id: id of any checkpoint.
            request: images and mask; default: the request's defaults.
            uploads: paths or contents of image files, in place of the request's images.

        Raises:
            ApiError: an image or the mask is not valid; ``problem.errors`` points at it.
            OSError: a file of ``uploads`` cannot be read.
        """
        response = self._reconstructions(checkpoint_id, request, uploads, "json")
        return self._read(response, Reconstruction)

    def reconstruct_png(
        self,
        checkpoint_id: str,
        request: ReconstructionRequest | None = None,
        *,
        uploads: Sequence[str | Path | bytes] = (),
    ) -> bytes:
        """Reconstruct images under a mask, as one labelled PNG sheet."""
        return self._reconstructions(checkpoint_id, request, uploads, "png").content

    def _reconstructions(
        self,
        checkpoint_id: str,
        request: ReconstructionRequest | None,
        uploads: Sequence[str | Path | bytes],
        form: str,
    ) -> httpx.Response:
        request = request or ReconstructionRequest()
        if uploads:
            request = request.model_copy(update={"images": uploaded_images(uploads)})
        return self._send(
            "POST",
            path_of("checkpoints", checkpoint_id, "reconstructions"),
            params={"format": form},
            json=request.model_dump(mode="json"),
            timeout=RECONSTRUCTION_TIMEOUT_SECONDS,
        )


def uploaded_images(files: Sequence[str | Path | bytes]) -> UploadedImages:
    """Encode image files, given as paths or contents, for a reconstruction request.

    Raises:
        OSError: a file cannot be read.
        ValueError: ``files`` is empty, or has more images than one request takes.
    """
    contents = (file if isinstance(file, bytes) else Path(file).read_bytes() for file in files)
    return UploadedImages(uploaded=[base64.b64encode(data).decode("ascii") for data in contents])


def uploads_refused(problem: Problem) -> dict[int, str]:
    """Return the reasons why uploaded images were refused, by their index in the request."""
    found = ((_UPLOAD.fullmatch(field.pointer), field.message) for field in problem.errors)
    return {int(match[1]): message for match, message in found if match is not None}
