"""Convert database rows to the models of the API's responses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import InstrumentedAttribute

from api.db.tables import CheckpointRow, EvaluationRow, RunEventRow, RunRow
from pmae.schema import Checkpoint, Evaluation, HistoryEntry, Progress, Run, RunSummary

SUMMARY_COLUMNS: Sequence[InstrumentedAttribute[object]] = (
    RunRow.number,
    RunRow.id,
    RunRow.kind,
    RunRow.parent_id,
    RunRow.name,
    RunRow.state,
    RunRow.method,
    RunRow.dataset,
    RunRow.tags,
    RunRow.pinned,
    RunRow.owner,
    RunRow.priority,
    RunRow.attempt,
    RunRow.reason,
    RunRow.cancel_requested,
    RunRow.created_at,
    RunRow.started_at,
    RunRow.finished_at,
    RunRow.progress,
    RunRow.last_metrics,
    RunRow.top1,
)
"""Columns that a list reads; the spec, which is large, is not one."""


def moment(unix_seconds: float) -> datetime:
    """Convert a database time to a datetime in UTC."""
    return datetime.fromtimestamp(unix_seconds, UTC)


def optional_moment(unix_seconds: float | None) -> datetime | None:
    """Convert a database time that may be missing."""
    return None if unix_seconds is None else moment(unix_seconds)


def summary_values(row: RunRow) -> dict[str, object]:
    """Return the fields of :class:`~pmae.schema.RunSummary`; needs only ``SUMMARY_COLUMNS``."""
    return {
        "id": row.id,
        "kind": row.kind,
        "parent_id": row.parent_id,
        "number": row.number,
        "name": row.name,
        "state": row.state,
        "method": row.method,
        "dataset": row.dataset,
        "tags": row.tags,
        "pinned": row.pinned,
        "owner": row.owner,
        "priority": row.priority,
        "attempt": row.attempt,
        "reason": row.reason,
        "cancel_requested": row.cancel_requested,
        "created_at": moment(row.created_at),
        "started_at": optional_moment(row.started_at),
        "finished_at": optional_moment(row.finished_at),
        "progress": Progress.model_validate(row.progress),
        "last_metrics": row.last_metrics,
        "top1": row.top1,
    }


def run_summary(row: RunRow) -> RunSummary:
    """Convert a run for a list."""
    return RunSummary.model_validate(summary_values(row))


def run_view(row: RunRow, evaluations: Sequence[EvaluationRow]) -> Run:
    """Convert a run in full."""
    return Run.model_validate(
        summary_values(row)
        | {
            "spec": row.spec,
            "notes": row.notes,
            "preset": row.preset,
            "worker": row.worker,
            "lease_number": row.lease_number,
            "max_attempts": row.max_attempts,
            "devices": row.devices,
            "rerun_of": row.rerun_of,
            "error": row.error,
            "basis_digest": row.basis_digest,
            "evaluations": [evaluation_view(evaluation) for evaluation in evaluations],
            "environment": row.environment,
        }
    )


def evaluation_view(row: EvaluationRow) -> Evaluation:
    """Convert an evaluation of a run."""
    return Evaluation(
        key=row.key,
        protocol=row.protocol,
        features=row.features,
        step=row.step,
        epoch=row.epoch,
        split=row.split,
        top1=row.top1,
        details=row.details,
    )


def history_entry(row: RunEventRow) -> HistoryEntry:
    """Convert an entry of a run's history."""
    return HistoryEntry(
        id=row.id,
        at=moment(row.at),
        type=row.type,
        actor=row.actor,
        message=row.message,
        data=row.data,
    )


def checkpoint_view(row: CheckpointRow, run_id: str) -> Checkpoint:
    """Convert a checkpoint of the run ``run_id``."""
    return Checkpoint.model_validate(
        {
            "id": row.id,
            "run_id": run_id,
            "name": row.name,
            "kind": row.kind,
            "step": row.step,
            "epoch": row.epoch,
            "created_at": moment(row.created_at),
            "files": row.files,
            "metrics": row.metrics,
            "pinned": row.pinned,
        }
    )
