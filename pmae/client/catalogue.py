"""Client methods for the service as a whole: its catalogue, queue, workers and readiness."""

from __future__ import annotations

import httpx
from pydantic import TypeAdapter

from pmae.client.connection import Connection, path_of
from pmae.client.errors import api_error
from pmae.schema import DatasetView, PresetView, Queue, Readiness, WorkerView
from pmae.schema.methods import MethodView

_PRESETS = TypeAdapter(list[PresetView])
_METHODS = TypeAdapter(list[MethodView])
_DATASETS = TypeAdapter(list[DatasetView])
_WORKERS = TypeAdapter(list[WorkerView])


class ServiceMethods(Connection):
    """Methods of :class:`~pmae.client.PmaeClient` for the service as a whole."""

    def presets(self) -> list[PresetView]:
        """List the presets."""
        return self._read(self._send("GET", "/presets"), _PRESETS)

    def preset(self, name: str) -> PresetView:
        """Return one preset by its name."""
        return self._read(self._send("GET", path_of("presets", name)), PresetView)

    def methods(self) -> list[MethodView]:
        """List the methods that a spec can name, with their masking strategies."""
        return self._read(self._send("GET", "/methods"), _METHODS)

    def datasets(self) -> list[DatasetView]:
        """List the data sets that a spec can name, with their availability."""
        return self._read(self._send("GET", "/datasets"), _DATASETS)

    def queue(self) -> Queue:
        """Return the queued runs in starting order, each with why it waits."""
        return self._read(self._send("GET", "/queue"), Queue)

    def workers(self) -> list[WorkerView]:
        """List the workers that are up."""
        return self._read(self._send("GET", "/workers"), _WORKERS)

    def drain(self, worker: str) -> None:
        """Drain a worker: it takes no more runs, and returns its checkpointed run to the queue."""
        self._send("POST", path_of("workers", worker, "drain"))

    def undrain(self, worker: str) -> None:
        """Let a worker take runs again."""
        self._send("POST", path_of("workers", worker, "undrain"))

    def ready(self) -> Readiness:
        """Return the readiness checks; a service that is not ready raises no error here."""
        response = self._request("GET", "/readyz")
        if response.status_code not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
            raise api_error(response)
        return self._read(response, Readiness)
