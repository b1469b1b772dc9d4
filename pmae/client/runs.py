"""Client methods for runs: submit, find, change, cancel, resume, rerun, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pmae.client.connection import Connection, path_of
from pmae.schema import Run, RunPage
from pmae.schema.run_query import RunQuery, run_query
from pmae.schema.runs import RunChange, SubmitPreview
from pmae.spec import RunSpec, SpecModel


class RunMethods(Connection):
    """Methods of :class:`~pmae.client.PmaeClient` for runs."""

    def submit(
        self,
        spec: RunSpec | Mapping[str, Any] | None = None,
        *,
        preset: str | None = None,
        priority: int = 0,
        idempotency_key: str | None = None,
    ) -> Run:
        """Queue a run of ``spec``, or of ``preset`` changed by the fields of ``spec``.

        A lost answer is retried a few times, without queuing a second run.

        Args:
            spec: a spec, or the fields of one.
            preset: name of a preset.
            priority: runs of higher priority start first.
            idempotency_key: key for retries by the caller; default: a new one.

        Raises:
            ApiError: the spec is not valid; ``problem.errors`` names each bad field.
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
        """Validate a submission: return the resolved spec and its estimated cost; queue nothing.

        Raises:
            ApiError: the spec is not valid; ``problem.errors`` names each bad field.
        """
        params = {"preset": preset, "validate_only": True}
        response = self._send("POST", "/runs", params=params, json=_body(spec, preset))
        return self._read(response, SubmitPreview)

    def runs(self, query: RunQuery | None = None, /, **fields: Any) -> RunPage:
        """Return a page of the runs that match all filters, newest first unless sorted otherwise.

        Args:
            query: filters, order and page.
            fields: fields of a query instead, as in ``runs(state="failed", tag=["a", "b"])``;
                those that are None are left out.

        Raises:
            QueryError: the value of a field is not valid.
            TypeError: there is no such field, or a query was given too.
        """
        if query is None:
            query = run_query(**fields)
        elif fields:
            raise TypeError(f"got a query and {', '.join(fields)}; expected one of the two")
        params = query.model_dump(mode="json", exclude_unset=True)
        return self._read(self._send("GET", "/runs", params=params), RunPage)

    def run(self, run_id: str) -> Run:
        """Return one run with all its fields."""
        return self._read(self._send("GET", path_of("runs", run_id)), Run)

    def change(self, run_id: str, change: RunChange | Mapping[str, Any]) -> Run:
        """Change a run's name, tags, notes, pin or priority; other fields stay as they are.

        Raises:
            ApiError: a field or value is not valid, or the run's state does not allow the change.
        """
        if isinstance(change, RunChange):
            change = change.model_dump(mode="json", exclude_unset=True)
        return self._read(self._send("PATCH", path_of("runs", run_id), json=dict(change)), Run)

    def cancel(self, run_id: str) -> Run:
        """Cancel a run; a running one is ``cancelled`` once its process has ended."""
        return self._read(self._send("POST", path_of("runs", run_id, "cancel")), Run)

    def resume(self, run_id: str, *, idempotency_key: str | None = None) -> Run:
        """Queue a failed or cancelled run again; it resumes from its newest valid checkpoint.

        A lost answer is retried as by :meth:`submit`.
        """
        response = self._send_once(path_of("runs", run_id, "resume"), idempotency_key)
        return self._read(response, Run)

    def rerun(self, run_id: str, *, idempotency_key: str | None = None) -> Run:
        """Queue a new run with exactly the spec of this one.

        A lost answer is retried as by :meth:`submit`, without queuing a second run.
        """
        response = self._send_once(path_of("runs", run_id, "rerun"), idempotency_key)
        return self._read(response, Run)

    def delete(self, run_id: str) -> None:
        """Delete an ended run: it is hidden at once; its files and rows are removed later."""
        self._send("DELETE", path_of("runs", run_id))


def _body(spec: RunSpec | Mapping[str, Any] | None, preset: str | None) -> dict[str, Any]:
    """Return the request's body; with a preset only the fields that were set, not the defaults."""
    if isinstance(spec, SpecModel):
        return spec.model_dump(mode="json", exclude_unset=preset is not None)
    if isinstance(spec, str):
        raise TypeError(f"{spec!r} is no spec; for a preset pass preset={spec!r}")
    return dict(spec or {})
