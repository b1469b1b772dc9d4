"""The part of the client that is about checkpoints: files, reconstructions, evaluations."""

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
"""The first one after the service's start loads the library and the data set."""


class CheckpointMethods(Connection):
    """What :class:`~pmae.client.PmaeClient` does with checkpoints."""

    def checkpoints(
        self, run_id: str, *, kind: CheckpointKind | None = None, page_size: int = 50
    ) -> Iterator[Checkpoint]:
        """The run's checkpoints, newest first.

        The next page is asked for when the iteration comes to it: who wants the newest alone stops
        early.

        Args:
            run_id: of the run that wrote them.
            kind: ``kept`` ones, or the ``latest``, which rolls; None: both.
            page_size: checkpoints in one answer.
        """
        path = path_of("runs", run_id, "checkpoints")
        return self._pages(path, CheckpointPage, {"kind": kind, "limit": page_size})

    def checkpoint(self, checkpoint_id: str) -> Checkpoint:
        """One checkpoint."""
        return self._read(self._send("GET", path_of("checkpoints", checkpoint_id)), Checkpoint)

    def pin_checkpoint(self, checkpoint_id: str, *, pinned: bool = True) -> Checkpoint:
        """Keep a checkpoint that the spec's retention would remove, or let it go."""
        path = path_of("checkpoints", checkpoint_id)
        return self._read(self._send("PATCH", path, json={"pinned": pinned}), Checkpoint)

    def delete_checkpoint(self, checkpoint_id: str) -> None:
        """Remove a kept checkpoint that is neither pinned nor needed."""
        self._send("DELETE", path_of("checkpoints", checkpoint_id))

    def evaluate(
        self,
        checkpoint_id: str,
        request: EvaluationRequest | Mapping[str, Any],
        *,
        priority: int = 0,
        idempotency_key: str | None = None,
    ) -> Run:
        """Queue a run that measures a kept checkpoint by the protocols of ``request``.

        A broken connection is tried again as for
        :meth:`~pmae.client.runs.RunMethods.submit`, and makes one run all the same.

        Raises:
            ApiError: there is no such checkpoint, or an evaluation does not suit it.
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
        """The runs that evaluate checkpoints of this run, newest first, with their results.

        The next page is asked for when the iteration comes to it: who wants the newest ones alone
        stops early.

        Args:
            run_id: of the run whose checkpoints they evaluate.
            page_size: runs in one answer.
        """
        path = path_of("runs", run_id, "evaluations")
        return self._pages(path, EvaluationRunPage, {"limit": page_size})

    def download_url(
        self, checkpoint_id: str, file_name: str, *, base_url: str | None = None
    ) -> str:
        """Where a browser or curl fetches a checkpoint's file.

        ``base_url`` is the service's address as they reach it, if another than this client's.
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
        """Fetch a checkpoint's file to ``destination`` (a folder: under its own name).

        An earlier try that broke off is gone on with. The SHA-256 is checked against the
        checkpoint's manifest before the file appears; that of the manifest itself
        (``manifest.json``) is as the service tells it.

        Raises:
            DownloadError: no such file, broken off, or not the bytes that the manifest names.
        """
        path = path_of("checkpoints", checkpoint_id, "files", file_name)
        facts = self.checkpoint(checkpoint_id).files
        if file_name == MANIFEST_FILE:
            told = self._send("HEAD", path).headers
            size = int(told["content-length"])
            facts = {file_name: FileFacts(sha256=told["etag"].strip('"'), size=size)}
        elif file_name not in facts:
            raise DownloadError(
                f"the checkpoint {checkpoint_id} has no file {file_name!r}; "
                f"valid are {', '.join([*sorted(facts), MANIFEST_FILE])}"
            )
        if destination.is_dir():
            destination = destination / file_name
        return download_file(self._opening(path), facts[file_name], destination, progress)

    def _opening(self, path: str) -> OpenStream:
        # Compressed on the way, the bytes would not be those that Range counts.
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
            checkpoint_id: of any checkpoint.
            request: which images, and what is masked.
            uploads: image files, or what such files hold, in place of the request's images.

        Raises:
            ApiError: an image, or the mask, cannot be used; ``problem.errors`` points at it.
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
        """The same as one labelled PNG sheet."""
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
    """Image files, or what such files hold, for a :class:`~pmae.schema.ReconstructionRequest`.

    Raises:
        OSError: a file cannot be read.
        ValueError: there is none, or there are more than one request takes.
    """
    contents = (file if isinstance(file, bytes) else Path(file).read_bytes() for file in files)
    return UploadedImages(uploaded=[base64.b64encode(data).decode("ascii") for data in contents])


def uploads_refused(problem: Problem) -> dict[int, str]:
    """Which uploaded images cannot be used, by their place in the request, and why."""
    found = ((_UPLOAD.fullmatch(field.pointer), field.message) for field in problem.errors)
    return {int(match[1]): message for match, message in found if match is not None}
