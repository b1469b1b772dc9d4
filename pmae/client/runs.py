"""The part of the client that is about the life of runs: submitting, finding, changing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pmae.client.connection import Connection, path_of
from pmae.schema import Run, RunPage
from pmae.schema.run_query import RunQuery, run_query
from pmae.schema.runs import RunChange, SubmitPreview
from pmae.spec import RunSpec, SpecModel


class RunMethods(Connection):
    """What :class:`~pmae.client.PmaeClient` does with runs."""

    def submit(
        self,
        spec: RunSpec | Mapping[str, Any] | None = None,
        *,
        preset: str | None = None,
        priority: int = 0,
        idempotency_key: str | None = None,
    ) -> Run:
        """Queue a run of ``spec``, or of ``preset`` with the fields of ``spec`` laid over it.

        A broken connection is tried again a few times, and makes one run all the same.

        Args:
            spec: fields of a spec.
            preset: what they are laid over.
            priority: higher ones start first.
            idempotency_key: one that a caller keeps, to try again later; default: a new one.

        Raises:
            ApiError: the spec cannot be run; ``problem.errors`` names each bad field.
        """
        response = self._send_once(
            "/runs",
            idempotency_key,
            params={"preset": preset, "priority": priority},
            json=_body(spec, preset),
        )
        return self._read(response, Run)

    def preview(
        self, spec: RunSpec | Mapping[str, Any] | None = None, *, preset: str | None = None
    ) -> SubmitPreview:
        """What :meth:`submit` would queue, and what it would cost.

        Raises:
            ApiError: the spec cannot be run; ``problem.errors`` names each bad field.
        """
        params = {"preset": preset, "validate_only": True}
        response = self._send("POST", "/runs", params=params, json=_body(spec, preset))
        return self._read(response, SubmitPreview)

    def runs(self, query: RunQuery | None = None, /, **fields: Any) -> RunPage:
        """A page of the runs that fit all filters, newest first unless sorted otherwise.

        Args:
            query: filters, order and page.
            fields: or the fields of one, as in ``runs(state="failed", tag=["a", "b"], limit=10)``;
                those that are None are left out.

        Raises:
            QueryError: a field has no valid value.
            TypeError: there is no such field.
        """
        if query is None:
            query = run_query(**fields)
        elif fields:
            raise TypeError(f"a query and {', '.join(fields)} were given; valid is one of the two")
        params = query.model_dump(mode="json", exclude_unset=True)
        return self._read(self._send("GET", "/runs", params=params), RunPage)

    def run(self, run_id: str) -> Run:
        """One run in full."""
        return self._read(self._send("GET", path_of("runs", run_id)), Run)

    def change(self, run_id: str, change: RunChange | Mapping[str, Any]) -> Run:
        """Change a run's name, tags, notes, pin or place in the queue; what is not given stays.

        Raises:
            ApiError: a field that cannot be changed, or not so, or not any more.
        """
        if isinstance(change, RunChange):
            change = change.model_dump(mode="json", exclude_unset=True)
        return self._read(self._send("PATCH", path_of("runs", run_id), json=dict(change)), Run)

    def cancel(self, run_id: str) -> Run:
        """Ask for a run to be stopped; it is ``cancelled`` when its process is gone."""
        return self._read(self._send("POST", path_of("runs", run_id, "cancel")), Run)

    def resume(self, run_id: str, *, idempotency_key: str | None = None) -> Run:
        """Queue a failed or cancelled run again; it goes on from its newest valid checkpoint.

        A broken connection is tried again as for :meth:`submit`.
        """
        response = self._send_once(path_of("runs", run_id, "resume"), idempotency_key)
        return self._read(response, Run)

    def rerun(self, run_id: str, *, idempotency_key: str | None = None) -> Run:
        """Queue a new run with exactly the spec of this one.

        A broken connection is tried again as for :meth:`submit`, and makes one run all the same.
        """
        response = self._send_once(path_of("runs", run_id, "rerun"), idempotency_key)
        return self._read(response, Run)

    def delete(self, run_id: str) -> None:
        """Delete a run that has ended: it is hidden at once, its files and rows go afterwards."""
        self._send("DELETE", path_of("runs", run_id))


def _body(spec: RunSpec | Mapping[str, Any] | None, preset: str | None) -> dict[str, Any]:
    """Over a preset only what the author wrote counts, not the defaults of this version."""
    if isinstance(spec, SpecModel):
        return spec.model_dump(mode="json", exclude_unset=preset is not None)
    if isinstance(spec, str):
        raise TypeError(f"{spec!r} is no spec; valid for a preset is preset={spec!r}")
    return dict(spec or {})
