"""The part of the client that is about the service: what it offers, its workers, its health."""

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
    """What :class:`~pmae.client.PmaeClient` asks of the service as a whole."""

    def presets(self) -> list[PresetView]:
        """The named specs."""
        return self._read(self._send("GET", "/presets"), _PRESETS)

    def preset(self, name: str) -> PresetView:
        """One named spec."""
        return self._read(self._send("GET", path_of("presets", name)), PresetView)

    def methods(self) -> list[MethodView]:
        """The methods that a spec can name: what each masks, and how."""
        return self._read(self._send("GET", "/methods"), _METHODS)

    def datasets(self) -> list[DatasetView]:
        """The data sets that a spec can name, and whether their files are there."""
        return self._read(self._send("GET", "/datasets"), _DATASETS)

    def queue(self) -> Queue:
        """What waits, in the order in which it starts, each with why it has not begun."""
        return self._read(self._send("GET", "/queue"), Queue)

    def workers(self) -> list[WorkerView]:
        """The workers that were heard of lately."""
        return self._read(self._send("GET", "/workers"), _WORKERS)

    def drain(self, worker: str) -> None:
        """Ask a worker to take no more runs, and to checkpoint and give back the one it has."""
        self._send("POST", path_of("workers", worker, "drain"))

    def undrain(self, worker: str) -> None:
        """Let a worker take runs again."""
        self._send("POST", path_of("workers", worker, "undrain"))

    def ready(self) -> Readiness:
        """Whether the service can do its work; one that answers "not ready" is no error here."""
        response = self._request("GET", "/readyz")
        if response.status_code not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
            raise api_error(response)
        return self._read(response, Readiness)
