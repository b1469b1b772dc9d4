"""Record a lease's ``events.jsonl`` in SQL.

Rows and the offset up to which the file was read are written in one transaction, which is rolled
back if the lease has ended. Rows have unique keys, so that recording events again, as after a
resume, changes nothing.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, delete, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, sessionmaker

from api.db.clock import database_now
from api.db.errors import LeaseLostError
from api.db.metric_blocks import summarise
from api.db.revision import current_schema
from api.db.run_states import Claim, held
from api.db.tables import CheckpointRow, EvaluationRow, MetricRow, RunEventRow, RunRow
from pmae.errors import EventError
from pmae.runs.events import (
    BasisEvent,
    CheckpointEvent,
    CheckpointRemovedEvent,
    EndEvent,
    ErrorEvent,
    EvaluationEvent,
    Event,
    MetricsEvent,
    ProgressEvent,
    StageEvent,
    StartEvent,
    WarningEvent,
    parse_event,
    split_lines,
)
from pmae.runs.layout import LeaseDir, RunDir, checkpoint_id
from worker.recording.history import history_line

_CHUNK_BYTES = 256 * 1024
_NUL, _REPLACED = rb"\u0000", rb"\ufffd"
"""U+0000 in JSON, which no database stores."""
_HEADLINE_EVALUATION = "linear/encoder"
_log = logging.getLogger(__name__)

Row = dict[str, Any]


@dataclass
class _Batch:
    """The changes of one chunk of the file."""

    run: Row = field(default_factory=dict)
    metrics: dict[tuple[str, int], Row] = field(default_factory=dict)
    events: dict[str, Row] = field(default_factory=dict)
    evaluations: dict[str, Row] = field(default_factory=dict)
    checkpoints: dict[str, Row] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)


class Recorder:
    """Records the events of one lease.

    Attributes:
        ended: an ``end`` event was read: the run has completed its spec.
        error: the ``error`` event that was read, if any.
        advanced: this lease made progress: it wrote a checkpoint or a result.
    """

    def __init__(self, sessions: sessionmaker[Session], claimed: Claim, lease: LeaseDir) -> None:
        self._sessions = sessions
        self._claim = claimed
        self._lease = lease
        self._offset = 0
        self._progress: Row = {}
        self._last_metrics: dict[str, float] = {}
        self._started_at = math.inf
        self.ended = self.advanced = False
        self.error: ErrorEvent | None = None

    @property
    def stage(self) -> str | None:
        """The last recorded stage of the trainer."""
        stage: str | None = self._progress.get("stage")
        return stage

    @property
    def epoch(self) -> float | None:
        """The last recorded number of epochs; None before the first."""
        epoch: float | None = self._progress.get("epoch")
        return epoch

    def record(self) -> bool:
        """Record the next chunk of whole lines.

        Returns:
            True if there was anything; an incomplete last line is left for later.

        Raises:
            LeaseLostError: the run belongs to another lease; nothing was written.
            SchemaError: the database was migrated to another schema; nothing was written.
        """
        try:
            with self._lease.events.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_CHUNK_BYTES)
                if b"\n" not in data:
                    data += file.readline()  # a line longer than a chunk, or an incomplete one
        except FileNotFoundError:
            return False
        lines, taken = split_lines(data)
        if not taken:
            return False
        progress, last_metrics = dict(self._progress), dict(self._last_metrics)
        batch = self._batch(lines)
        try:
            with self._sessions.begin() as session, current_schema(session):
                self._write(session, batch, self._offset + taken)
        except BaseException:
            self._progress, self._last_metrics = progress, last_metrics
            raise
        self._offset += taken
        return True

    def record_all(self) -> None:
        """Record all complete lines of the file."""
        while self.record():
            pass

    def _batch(self, lines: Sequence[bytes]) -> _Batch:
        batch = _Batch()
        for line in lines:
            key = hashlib.sha256(line).hexdigest()[:40]
            try:
                event = parse_event(line.replace(_NUL, _REPLACED))
            except EventError as error:
                _log.warning("a line was skipped: %s", error)
                batch.events[key] = self._event("warning", f"a line was skipped: {error}", {})
                continue
            self._add(batch, event, key)
        batch.run["progress"] = self._progress
        batch.run["last_metrics"] = self._last_metrics
        return batch

    def _set_progress(self, progress: Row) -> None:
        """Set the progress; keep the number of epochs in later stages and at the end."""
        epochs = {name: self._progress.get(name) for name in ("epoch", "total_epochs")}
        known = {name: value for name, value in progress.items() if value is not None}
        self._progress = {**progress, **epochs, **known}

    def _add(self, batch: _Batch, event: Event, key: str) -> None:
        match event:
            case ProgressEvent():
                self._set_progress(event.model_dump(exclude={"time", "type"}))
            case MetricsEvent():
                self._add_metrics(batch, event)
            case CheckpointEvent():
                self._add_checkpoint(batch, event)
            case CheckpointRemovedEvent():
                batch.checkpoints.pop(event.name, None)
                batch.removed.add(event.name)
            case EvaluationEvent():
                row = event.model_dump(exclude={"time", "type"})
                batch.evaluations[event.key] = {"run_number": self._claim.number, **row}
                if event.key == _HEADLINE_EVALUATION:
                    batch.run["top1"] = event.top1
                # The trainer repeats the results of an earlier lease unchanged.
                if event.time >= self._started_at:
                    self._advance(batch)
            case StartEvent():
                batch.run["environment"] = event.environment
                if event.lease == self._claim.lease_number:
                    self._started_at = event.time
            case BasisEvent():
                batch.run["basis_digest"] = event.digest
            case StageEvent():
                self._set_progress({"stage": event.stage})
            case ErrorEvent():
                self.error = event
            case EndEvent():
                self.ended = True
            case WarningEvent():
                pass
        line = history_line(event, self._claim.spec["kind"])
        if line is not None:
            data = event.model_dump(mode="json", exclude={"environment", "details", "files"})
            kind = "checkpoint" if isinstance(event, CheckpointRemovedEvent) else event.type
            batch.events[key] = self._event(kind, line, data)

    def _advance(self, batch: _Batch) -> None:
        """Record progress: a run fails only after too many starts without any."""
        self.advanced = True
        batch.run["attempt"] = 1

    def _add_metrics(self, batch: _Batch, event: MetricsEvent) -> None:
        self._last_metrics |= event.values
        for name, value in event.values.items():
            batch.metrics[name, event.step] = {
                "run_number": self._claim.number,
                "name": name,
                "step": event.step,
                "epoch": event.epoch,
                "time": event.time,
                "value": value,
            }

    def _add_checkpoint(self, batch: _Batch, event: CheckpointEvent) -> None:
        for name, row in list(batch.checkpoints.items()):
            if row["kind"] == "latest":
                del batch.checkpoints[name]
        if event.lease == self._claim.lease_number:
            self._advance(batch)
        elif event.kind == "kept" and not self._is_there(event):
            return  # deleted before this lease began; the checkpoint repeats the event
        batch.removed.discard(event.name)
        batch.checkpoints[event.name] = {
            "id": checkpoint_id(self._claim.run_id, event.step),
            "run_number": self._claim.number,
            "name": event.name,
            "kind": event.kind,
            "lease_number": event.lease,
            "step": event.step,
            "epoch": event.epoch,
            "created_at": event.time,
            "files": event.model_dump(mode="json")["files"],
            "metrics": event.metrics,
        }

    def _is_there(self, event: CheckpointEvent) -> bool:
        lease = RunDir(self._lease.path.parent).lease(event.lease)
        return (lease.checkpoints / event.name).is_dir()

    def _event(self, kind: str, message: str, data: Row) -> Row:
        return {
            "run_number": self._claim.number,
            "at": database_now(),
            "type": kind,
            "actor": self._claim.worker,
            "message": message,
            "data": data,
        }

    def _write(self, session: Session, batch: _Batch, offset: int) -> None:
        fenced = (
            update(RunRow)
            .where(*held(self._claim))
            .values(recorded_offset=offset, **batch.run)
            .returning(RunRow.number)
            .execution_options(synchronize_session=False)
        )
        if session.execute(fenced).scalar_one_or_none() is None:
            raise LeaseLostError(
                f"lease {self._claim.lease_number} of run {self._claim.run_id} has ended"
            )
        self._write_metrics(session, batch)
        _upsert(session, EvaluationRow, list(batch.evaluations.values()), ["run_number", "key"])
        self._remove_checkpoints(session, batch)
        _upsert(session, CheckpointRow, list(batch.checkpoints.values()), ["id"])
        events = [{"key": key, **row} for key, row in batch.events.items()]
        _upsert(session, RunEventRow, events, ["run_number", "key"], replace=False)

    def _write_metrics(self, session: Session, batch: _Batch) -> None:
        rows = list(batch.metrics.values())
        _upsert(session, MetricRow, rows, ["run_number", "name", "step"])
        if rows:
            names = {name for name, _ in batch.metrics}
            steps = [step for _, step in batch.metrics]
            summarise(session, self._claim.number, names, min(steps), max(steps))

    def _remove_checkpoints(self, session: Session, batch: _Batch) -> None:
        """Remove rows of checkpoints that the trainer removed, and of replaced rolling ones."""
        which: list[ColumnElement[bool]] = [CheckpointRow.name.in_(batch.removed)]
        if batch.checkpoints:
            which.append(CheckpointRow.kind == "latest")
        if batch.removed or batch.checkpoints:
            run = CheckpointRow.run_number == self._claim.number
            session.execute(delete(CheckpointRow).where(run, or_(*which)))


def _upsert(
    session: Session,
    table: type[MetricRow | EvaluationRow | CheckpointRow | RunEventRow],
    rows: list[Row],
    keys: list[str],
    *,
    replace: bool = True,
) -> None:
    if not rows:
        return
    postgres = session.get_bind().dialect.name == "postgresql"
    # Both databases limit a statement's parameters, and accept this many rows of any table.
    most = 500
    for start in range(0, len(rows), most):
        chunk = rows[start : start + most]
        insert = (postgresql.insert if postgres else sqlite.insert)(table).values(chunk)
        others = {name: insert.excluded[name] for name in chunk[0] if name not in keys}
        if replace:
            insert = insert.on_conflict_do_update(index_elements=keys, set_=others)
        else:
            insert = insert.on_conflict_do_nothing(index_elements=keys)
        session.execute(insert)
