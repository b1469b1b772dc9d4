"""The part of the client that is about the life of runs: submitting, listing, changing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pmae.client.connection import Connection, path_of
from pmae.schema import Run, RunKind, RunPage, RunState
from pmae.spec import RunSpec, SpecModel


class RunMethods(Connection):
    """What :class:`~pmae.client.PmaeClient` does with runs."""

    def submit(
        self,
        spec: RunSpec | Mapping[str, Any] | None = None,
        *,
        preset: str | None = None,
        priority: int = 0,
    ) -> Run:
        """Queue a run of ``spec``, or of ``preset`` with the fields of ``spec`` laid over it.

        Raises:
            ApiError: the spec cannot be run; ``problem.errors`` names each bad field.
        """
        if isinstance(spec, SpecModel):
            # Over a preset only what the author wrote counts, not the defaults of this version.
            spec = spec.model_dump(mode="json", exclude_unset=preset is not None)
        response = self._send(
            "POST", "/runs", params={"preset": preset, "priority": priority}, json=dict(spec or {})
        )
        return self._read(response, Run)

    def runs(
        self,
        *,
        state: RunState | Sequence[RunState] | None = None,
        kind: RunKind | None = None,
        method: str | None = None,
        dataset: str | None = None,
        tag: str | Sequence[str] | None = None,
        text: str | None = None,
        metric: str | Sequence[str] | None = None,
        sort: str | None = None,
        order: Literal["asc", "desc"] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """A page of runs; ``cursor`` is the ``next_cursor`` of the page before.

        Args:
            state: only runs in it, or in one of these.
            kind: only runs of it.
            method: only runs of it.
            dataset: only runs on it.
            tag: only runs with it, or with all of these.
            text: only runs whose name or notes contain it, or whose id begins with it.
            metric: a bound, or several that all hold, of the newest value: ``val_loss<0.5``.
            sort: ``created`` (default), ``name``, ``top1``, ``finished``, ``priority``, or
                ``metric:<name>``.
            order: default: descending, so that the newest runs come first.
            limit: most runs of the page, at most 500.
            cursor: the other arguments stay as they were.
        """
        params = {
            "state": state,
            "kind": kind,
            "method": method,
            "dataset": dataset,
            "tag": tag,
            "text": text,
            "metric": metric,
            "sort": sort,
            "order": order,
            "limit": limit,
            "cursor": cursor,
        }
        return self._read(self._send("GET", "/runs", params=params), RunPage)

    def run(self, run_id: str) -> Run:
        """One run in full."""
        return self._read(self._send("GET", path_of("runs", run_id)), Run)

    def cancel(self, run_id: str) -> Run:
        """Ask for a run to be stopped; it is ``cancelled`` when its process is gone."""
        return self._read(self._send("POST", path_of("runs", run_id, "cancel")), Run)

    def resume(self, run_id: str) -> Run:
        """Queue a failed or cancelled run again; it goes on from its newest valid checkpoint."""
        return self._read(self._send("POST", path_of("runs", run_id, "resume")), Run)

    def rerun(self, run_id: str) -> Run:
        """Queue a new run with exactly the spec of this one."""
        return self._read(self._send("POST", path_of("runs", run_id, "rerun")), Run)

    def delete(self, run_id: str) -> None:
        """Delete a run that has ended: it is hidden at once, its files and rows go afterwards."""
        self._send("DELETE", path_of("runs", run_id))
