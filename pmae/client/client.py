"""The client: one method for each thing that the REST API does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from pydantic import SecretStr, TypeAdapter, ValidationError

from pmae.client.access import API_PREFIX, AccessMethods
from pmae.client.access import path_of as _path
from pmae.client.download import ProgressCallback, download_file
from pmae.client.errors import (
    DownloadError,
    UnexpectedAnswerError,
    api_error,
    mapped_errors,
)
from pmae.client.runs import RunMethods
from pmae.loopback import is_loopback
from pmae.schema import (
    Checkpoint,
    CheckpointList,
    DatasetView,
    Filmstrip,
    PresetView,
    Readiness,
    Reconstruction,
    ReconstructionRequest,
    Run,
    Spectrum,
    WorkerView,
)
from pmae.schema_evaluations import EvaluationRun, EvaluationRunList
from pmae.spec import EvaluationRequest

RECONSTRUCTION_TIMEOUT_SECONDS = 90.0
"""The first one after the service's start loads the library and the data set."""

_T = TypeVar("_T")
_PRESETS = TypeAdapter(list[PresetView])
_DATASETS = TypeAdapter(list[DatasetView])
_WORKERS = TypeAdapter(list[WorkerView])


class PmaeClient(RunMethods, AccessMethods):
    """Speaks to one service. Safe to share between threads; close it, or use it in a ``with``.

    Args:
        base_url: address of the API, without ``/api/v1``.
        api_key: ``pmae_...``, where the service asks for keys; never shown in a message.
        timeout: seconds to wait for a connection and for each piece of an answer.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | SecretStr | None = None,
        timeout: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._api_key = None if api_key is None else _secret(api_key)
        with mapped_errors(self.base_url):
            self._http = httpx.Client(
                base_url=self.base_url + API_PREFIX,
                timeout=timeout,
                transport=transport,
                # A proxy named by the environment cannot reach this machine's loopback.
                trust_env=not is_loopback(httpx.URL(self.base_url).host),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def with_key(self, api_key: str | SecretStr) -> Self:
        """The same service under another key. Both share connections, and close together."""
        other = copy(self)
        other._api_key = _secret(api_key)  # noqa: SLF001 - its own class
        return other

    # Checkpoints

    def checkpoints(self, run_id: str) -> list[Checkpoint]:
        """The run's checkpoints, newest first."""
        response = self._send("GET", _path("runs", run_id, "checkpoints"))
        return self._read(response, CheckpointList).items

    def checkpoint(self, checkpoint_id: str) -> Checkpoint:
        """One checkpoint."""
        return self._read(self._send("GET", _path("checkpoints", checkpoint_id)), Checkpoint)

    def pin_checkpoint(self, checkpoint_id: str, *, pinned: bool = True) -> Checkpoint:
        """Keep a checkpoint that the spec's retention would remove, or let it go."""
        path = _path("checkpoints", checkpoint_id)
        return self._read(self._send("PATCH", path, json={"pinned": pinned}), Checkpoint)

    def delete_checkpoint(self, checkpoint_id: str) -> None:
        """Remove a kept checkpoint that is neither pinned nor needed."""
        self._send("DELETE", _path("checkpoints", checkpoint_id))

    def evaluate(
        self,
        checkpoint_id: str,
        request: EvaluationRequest | Mapping[str, Any],
        *,
        priority: int = 0,
    ) -> Run:
        """Queue a run that measures a kept checkpoint by the protocols of ``request``.

        Raises:
            ApiError: there is no such checkpoint, or an evaluation does not suit it.
        """
        if isinstance(request, EvaluationRequest):
            request = request.model_dump(mode="json")
        response = self._send_once(
            _path("checkpoints", checkpoint_id, "evaluations"),
            None,
            params={"priority": priority},
            json=dict(request),
        )
        return self._read(response, Run)

    def evaluation_runs(self, run_id: str) -> list[EvaluationRun]:
        """The runs that evaluate checkpoints of this run, newest first, with their results."""
        response = self._send("GET", _path("runs", run_id, "evaluations"))
        return self._read(response, EvaluationRunList).items

    def download_url(
        self, checkpoint_id: str, file_name: str, *, base_url: str | None = None
    ) -> str:
        """Where a browser or curl fetches a checkpoint's file.

        ``base_url`` is the service's address as they reach it, if another than this client's.
        """
        path = _path("checkpoints", checkpoint_id, "files", file_name)
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
        checkpoint's manifest before the file appears.

        Raises:
            DownloadError: no such file, broken off, or not the bytes that the manifest names.
        """
        files = self.checkpoint(checkpoint_id).files
        if file_name not in files:
            raise DownloadError(
                f"the checkpoint {checkpoint_id} has no file {file_name!r}; "
                f"valid are {', '.join(sorted(files))}"
            )
        if destination.is_dir():
            destination = destination / file_name
        path = _path("checkpoints", checkpoint_id, "files", file_name)
        # Compressed on the way, the bytes would not be those that Range counts.
        plain = {"Accept-Encoding": "identity"}
        return download_file(
            lambda headers: self._stream(path, plain | headers),
            files[file_name],
            destination,
            progress,
        )

    def reconstruct(
        self, checkpoint_id: str, request: ReconstructionRequest | None = None
    ) -> Reconstruction:
        """Reconstruct images under a mask, each panel as a PNG in base64."""
        return self._read(self._reconstructions(checkpoint_id, request, "json"), Reconstruction)

    def reconstruct_png(
        self, checkpoint_id: str, request: ReconstructionRequest | None = None
    ) -> bytes:
        """The same as one labelled PNG sheet."""
        return self._reconstructions(checkpoint_id, request, "png").content

    def _reconstructions(
        self, checkpoint_id: str, request: ReconstructionRequest | None, form: str
    ) -> httpx.Response:
        return self._send(
            "POST",
            _path("checkpoints", checkpoint_id, "reconstructions"),
            params={"format": form},
            json=(request or ReconstructionRequest()).model_dump(mode="json"),
            timeout=RECONSTRUCTION_TIMEOUT_SECONDS,
        )

    # Bases

    def spectrum(self, run_id: str) -> Spectrum:
        """How the variance spreads over the components of the run's basis."""
        return self._read(self._send("GET", _path("runs", run_id, "components")), Spectrum)

    def filmstrip(self, run_id: str, *, image: int = 0, max_frames: int = 101) -> Filmstrip:
        """One validation image under one mask, as the run learned; PNGs in base64."""
        return self._read(self._film(run_id, image, max_frames, "json"), Filmstrip)

    def filmstrip_png(self, run_id: str, *, image: int = 0, max_frames: int = 101) -> bytes:
        """The same as one labelled PNG sheet."""
        return self._film(run_id, image, max_frames, "png").content

    def _film(self, run_id: str, image: int, max_frames: int, form: str) -> httpx.Response:
        params = {"image": image, "max_frames": max_frames, "format": form}
        return self._send("GET", _path("runs", run_id, "filmstrip"), params=params)

    def component_png(self, run_id: str, index: int) -> bytes:
        """Component ``index`` (from 0) of the run's basis as an image on a diverging scale."""
        return self._send("GET", _path("runs", run_id, "components", f"{index}.png")).content

    # The service

    def presets(self) -> list[PresetView]:
        """The named specs."""
        return self._read(self._send("GET", "/presets"), _PRESETS)

    def preset(self, name: str) -> PresetView:
        """One named spec."""
        return self._read(self._send("GET", _path("presets", name)), PresetView)

    def datasets(self) -> list[DatasetView]:
        """The data sets that a spec can name, and whether their files are there."""
        return self._read(self._send("GET", "/datasets"), _DATASETS)

    def workers(self) -> list[WorkerView]:
        """The workers that were heard of lately."""
        return self._read(self._send("GET", "/workers"), _WORKERS)

    def drain(self, worker: str) -> None:
        """Ask a worker to take no more runs, and to checkpoint and give back the one it has."""
        self._send("POST", _path("workers", worker, "drain"))

    def undrain(self, worker: str) -> None:
        """Let a worker take runs again."""
        self._send("POST", _path("workers", worker, "undrain"))

    def ready(self) -> Readiness:
        """Whether the service can do its work; one that answers "not ready" is no error here."""
        response = self._request("GET", "/readyz")
        if response.status_code not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
            raise api_error(response)
        return self._read(response, Readiness)

    # How requests are made

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        with mapped_errors(self.base_url):
            params = {k: v for k, v in arguments.pop("params", {}).items() if v is not None}
            headers = {**arguments.pop("headers", {}), **self._authorization}
            return self._http.request(method, path, params=params, headers=headers, **arguments)

    @property
    def _authorization(self) -> dict[str, str]:
        if self._api_key is None:
            return {}
        return {"Authorization": f"Bearer {self._api_key.get_secret_value()}"}

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        response = self._request(method, path, **arguments)
        if not response.is_success:
            raise api_error(response)
        return response

    @contextmanager
    def _stream(
        self, path: str, headers: Mapping[str, str], **arguments: Any
    ) -> Iterator[httpx.Response]:
        with (
            mapped_errors(self.base_url),
            self._http.stream(
                "GET", path, headers={**headers, **self._authorization}, **arguments
            ) as response,
        ):
            if not response.is_success:
                response.read()
                raise api_error(response)
            yield response

    def _read(self, response: httpx.Response, kind: type[_T] | TypeAdapter[_T]) -> _T:
        adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
        try:
            return adapter.validate_json(response.content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UnexpectedAnswerError(
                f"{response.request.url} answered, but not as this service does "
                f"({where or 'body'}: {first['msg']}); client and service may be of two versions"
            ) from error


def _secret(api_key: str | SecretStr) -> SecretStr:
    """Kept so that no traceback or repr shows it."""
    return SecretStr(api_key) if isinstance(api_key, str) else api_key
