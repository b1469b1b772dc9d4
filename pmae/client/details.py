"""Client methods for a run's details: metrics, log, history, spectrum, filmstrip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import httpx

from pmae.client.connection import Connection, path_of
from pmae.schema import (
    HISTORY_PAGE,
    Filmstrip,
    History,
    HistoryEntry,
    LogChunk,
    Metrics,
    Spectrum,
)
from pmae.schema.runs import MetricsOfRuns

Axis = Literal["step", "epoch", "time"]


class DetailMethods(Connection):
    """Methods of :class:`~pmae.client.PmaeClient` for the details of one run, or of several."""

    def metrics(
        self,
        run_id: str,
        *,
        names: Sequence[str] | None = None,
        max_points: int = 400,
        axis: Axis | None = None,
    ) -> Metrics:
        """Return metric series, downsampled to about ``max_points`` each.

        A long series keeps the minimum and maximum of each bucket; the buckets are equally wide
        along ``axis``, by default steps.
        """
        params = _metric_params(names, max_points) | {"axis": axis}
        response = self._send("GET", path_of("runs", run_id, "metrics"), params=params)
        return self._read(response, Metrics)

    def metrics_of_runs(
        self,
        run_ids: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        max_points: int = 400,
        axis: Axis | None = None,
    ) -> list[Metrics]:
        """Return the metrics of up to 50 runs in one request, in the given order."""
        params = _metric_params(names, max_points) | {"axis": axis, "runs": ",".join(run_ids)}
        return self._read(self._send("GET", "/metrics", params=params), MetricsOfRuns).runs

    def metrics_csv(
        self,
        run_ids: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        max_points: int | None = None,
    ) -> Iterator[str]:
        """Yield the points of up to 50 runs as pieces of a CSV; all points without ``max_points``.

        Raises:
            ServiceUnreachableError: the connection broke; the CSV is incomplete.
        """
        params = _metric_params(names, max_points) | {"runs": ",".join(run_ids), "format": "csv"}
        with self._stream("/metrics", {"Accept": "text/csv"}, params=params) as response:
            yield from response.iter_text()

    def log(self, run_id: str, *, offset: int = 0, limit: int = 65_536) -> LogChunk:
        """Return a chunk of the run's log from byte ``offset`` on; negative: from the end."""
        params = {"offset": offset, "limit": limit}
        return self._read(
            self._send("GET", path_of("runs", run_id, "log"), params=params), LogChunk
        )

    def history(self, run_id: str) -> History:
        """Return the run's whole history, oldest first."""
        items: list[HistoryEntry] = []
        while True:
            params = {"after": items[-1].id if items else None}
            response = self._send("GET", path_of("runs", run_id, "history"), params=params)
            page = self._read(response, History).items
            items += page
            if len(page) < HISTORY_PAGE:
                return History(items=items)

    def spectrum(self, run_id: str) -> Spectrum:
        """Return the explained variance ratio of each component of the run's basis."""
        return self._read(self._send("GET", path_of("runs", run_id, "components")), Spectrum)

    def filmstrip(self, run_id: str, *, image: int = 0, max_frames: int = 101) -> Filmstrip:
        """Return the reconstructions of one masked validation image over the run's steps.

        The panels are PNGs in base64, at most ``max_frames`` frames.
        """
        return self._read(self._film(run_id, image, max_frames, "json"), Filmstrip)

    def filmstrip_png(self, run_id: str, *, image: int = 0, max_frames: int = 101) -> bytes:
        """Return the same filmstrip as one labelled PNG sheet."""
        return self._film(run_id, image, max_frames, "png").content

    def _film(self, run_id: str, image: int, max_frames: int, form: str) -> httpx.Response:
        params = {"image": image, "max_frames": max_frames, "format": form}
        return self._send("GET", path_of("runs", run_id, "filmstrip"), params=params)

    def component_png(self, run_id: str, index: int) -> bytes:
        """Return component ``index`` (from 0) of the run's basis as a PNG, in diverging colours."""
        return self._send("GET", path_of("runs", run_id, "components", f"{index}.png")).content


def _metric_params(names: Sequence[str] | None, max_points: int | None) -> dict[str, Any]:
    params: dict[str, Any] = {} if max_points is None else {"max_points": max_points}
    if names is not None:
        params["names"] = ",".join(names)
    return params
