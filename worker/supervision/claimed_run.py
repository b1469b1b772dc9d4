"""Supervisor of one claimed run: its trainer, lease, recording and outcome."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.db import run_states
from api.db.errors import DATABASE_AWAY, LeaseLostError, SchemaError, reason
from api.db.run_states import Claim
from api.db.tables import RunRow
from pmae.runs.layout import LeaseDir, RunDir
from pmae.runtime.files import write_file
from pmae.runtime.logging import annotate
from pmae.spec import RUN_SPEC
from pmae.training.process.signals import DISK_FULL
from worker.recording.recorder import Recorder
from worker.settings import WorkerSettings
from worker.supervision.outcome import Decision, Ending, decide
from worker.supervision.trainers import Trainer

_POLL_SECONDS = 0.2
_CANCEL_POLL_SECONDS = 1.0
_LOG_TAIL_BYTES = 2000
_log = logging.getLogger(__name__)

T = TypeVar("T")
Start = Callable[[Sequence[str], Path], Trainer]
"""Starts a trainer, given its arguments and the path of its log."""

SILENCE_FRACTION = 0.7
"""Fraction of a lease: a trainer that hears nothing from its supervisor for this long exits."""
STOPPING_FRACTION = 0.05
"""Fraction of a lease: time that the trainer has to exit before the lease ends."""


class Supervisor:
    """Supervisor of one claimed run.

    Args:
        claimed: the run.
        sessions: of the run database.
        settings: of the worker.
        draining: returns True when the worker must give the run back.
        start: starts the trainer.
    """

    def __init__(
        self,
        claimed: Claim,
        *,
        sessions: sessionmaker[Session],
        settings: WorkerSettings,
        draining: Callable[[], bool],
        start: Start,
    ) -> None:
        self._claim = claimed
        self._sessions = sessions
        self._settings = settings
        self._draining = draining
        self._start_trainer = start
        self._run_dir = RunDir(settings.runs_dir / claimed.run_id)
        self._lease = self._run_dir.lease(claimed.lease_number)
        self._recorder = Recorder(sessions, claimed, self._lease)
        self._lease_ends = time.monotonic() + settings.lease_seconds
        self._next_heartbeat = time.monotonic() + settings.heartbeat_seconds
        self._next_cancel_poll = 0.0
        self._heard_at = time.monotonic()
        self._cancelled = self._drained = self._hung = self._refused = False
        self._kill_at: float | None = None

    def run(self) -> None:
        """Supervise from the trainer's start to the run's next state.

        If the lease is lost, kill the trainer and write nothing more.
        """
        try:
            self._write_spec()
            trainer = self._start()
        except OSError as error:
            self._change(_cannot_start(error))
            return
        try:
            self._watch(trainer)
            trainer.kill()
            self._conclude(trainer.exit_status)
        except LeaseLostError as error:
            _log.warning("%s; its trainer is stopped", error)
        finally:
            trainer.close()

    def _write_spec(self) -> None:
        self._lease.path.mkdir(parents=True, exist_ok=True)
        spec = RUN_SPEC.validate_python(self._claim.spec)
        write_file(self._run_dir.spec, spec.model_dump_json(indent=1).encode())

    def _start(self) -> Trainer:
        silence_seconds = SILENCE_FRACTION * self._settings.lease_seconds
        arguments = [str(self._run_dir.path), "--lease", str(self._claim.lease_number)]
        arguments += ["--supervised", "--silence-seconds", f"{silence_seconds:g}"]
        trainer = self._start_trainer(arguments, self._lease.log)
        _log.info("trainer %d started", trainer.pid)
        return trainer

    def _watch(self, trainer: Trainer) -> None:
        while not trainer.ended:
            self._keep_lease()
            if time.monotonic() < self._speak_until:
                trainer.say_alive()
            if self._record(self._recorder.record):
                self._heard_at = time.monotonic()
                annotate(epoch=self._recorder.epoch)
            self._pass_on_requests(trainer)
            self._kill_if_hung(trainer)
            time.sleep(_POLL_SECONDS)

    @property
    def _speak_until(self) -> float:
        """Time after which the trainer must get no more signs of life.

        Without them it exits before the lease, counted from its last renewal, ends.
        """
        fraction = SILENCE_FRACTION + STOPPING_FRACTION
        return self._lease_ends - fraction * self._settings.lease_seconds

    def _keep_lease(self) -> None:
        """Renew the lease when due, and check for a requested cancellation every second."""
        now = time.monotonic()
        if now >= self._next_heartbeat:
            self._with_database(self._heartbeat)
        elif now >= self._next_cancel_poll:
            self._next_cancel_poll = now + _CANCEL_POLL_SECONDS
            self._with_database(self._look_for_cancel)

    def _heartbeat(self) -> None:
        began = time.monotonic()
        with self._sessions.begin() as session:
            self._cancelled |= run_states.heartbeat(
                session, self._claim, lease_seconds=self._settings.lease_seconds
            )
        self._lease_ends = began + self._settings.lease_seconds
        self._next_heartbeat = began + self._settings.heartbeat_seconds

    def _look_for_cancel(self) -> None:
        with self._sessions() as session:
            conditions = run_states.held(self._claim)
            requested = session.scalar(select(RunRow.cancel_requested).where(*conditions))
        if requested is None:
            raise LeaseLostError(f"run {self._claim.run_id} was reclaimed")
        self._cancelled |= requested

    def _with_database(self, work: Callable[[], T]) -> T | None:
        """Do ``work``; return None if the database does not answer, and try again later.

        Raises:
            LeaseLostError: it did not answer until the lease ended, or the run was reclaimed.
        """
        try:
            return work()
        except DATABASE_AWAY as error:
            if time.monotonic() >= self._lease_ends:
                raise LeaseLostError(
                    f"the database did not answer until the lease of run {self._claim.run_id} ended"
                ) from error
            _log.warning("the database did not answer: %s", reason(error))
            return None

    def _record(self, record: Callable[[], bool]) -> bool | None:
        """Record events; None if the database does not answer or has another schema.

        With another schema the run is given back; whoever resumes it records all events again.
        """
        if self._refused:
            return None
        try:
            return self._with_database(record)
        except SchemaError as error:
            _log.error("the run is given back: %s", error)
            self._refused = self._drained = True
            return None

    def _pass_on_requests(self, trainer: Trainer) -> None:
        self._drained |= self._draining()
        if self._kill_at is None and (self._cancelled or self._drained):
            grace = (
                self._settings.cancel_grace_seconds
                if self._cancelled
                else self._settings.drain_grace_seconds
            )
            self._kill_at = time.monotonic() + grace
            trainer.terminate()
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            trainer.kill()

    def _kill_if_hung(self, trainer: Trainer) -> None:
        """Kill a trainer that hangs in pretraining; other stages may write no events for long."""
        if self._recorder.stage != "pretrain":
            return
        if time.monotonic() - self._heard_at >= self._settings.trainer_silence_seconds:
            self._hung = True
            trainer.kill()

    def _conclude(self, exit_status: int | None) -> None:
        """Record the remaining events, then change the state; wait for the database."""
        while not self._record(self._record_all) and not self._refused:
            time.sleep(_POLL_SECONDS)
        error = None if self._refused else self._recorder.error
        decision = decide(
            Ending(
                # The next trainer repeats an end that was not recorded.
                ended=self._recorder.ended and not self._refused,
                error=(error.code, error.message) if error else None,
                exit_status=exit_status,
                cancelled=self._cancelled,
                draining=self._drained,
                hung=self._settings.trainer_silence_seconds if self._hung else None,
                attempt=1 if self._recorder.advanced else self._claim.attempt,
                max_attempts=self._claim.max_attempts,
            )
        )
        self._change(decision)

    def _change(self, decision: Decision) -> None:
        """Make the transition; wait for the database."""
        error = None
        if decision.state == "failed":
            tail = _tail(self._lease)
            error = {"code": decision.code, "message": decision.reason, "log_tail": tail}

        def change() -> bool:
            with self._sessions.begin() as session:
                if decision.state == "queued":
                    run_states.requeue(
                        session,
                        self._claim,
                        reason=decision.reason,
                        counts_attempt=decision.counts_attempt,
                    )
                else:
                    run_states.finish(
                        session,
                        self._claim,
                        state=decision.state,
                        reason=decision.reason,
                        error=error,
                    )
            return True

        while not self._with_database(change):
            time.sleep(_POLL_SECONDS)
        _log.info("%s (%s)", decision.state, decision.reason)

    def _record_all(self) -> bool:
        self._recorder.record_all()
        return True


def _cannot_start(error: OSError) -> Decision:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Decision("failed", DISK_FULL, "disk_full")
    return Decision("failed", f"its trainer could not be started: {error}", "storage_error")


def _tail(lease: LeaseDir) -> str:
    """Read the last lines of the log; empty if it cannot be read."""
    try:
        with lease.log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
