"""Background writer of checkpoints: one thread, one checkpoint at a time."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from pmae.runs.checkpoints import CheckpointConfig, TrainingState, write_checkpoint
from pmae.runs.events import CheckpointRemovedEvent, EventWriter
from pmae.runs.layout import LeaseDir
from pmae.runs.retention import retain

MAX_BYTES_PER_SECOND = 16 << 20
"""Maximum average write rate of rolling checkpoints: large ones are written less often."""
_log = logging.getLogger(__name__)


class CheckpointWriter:
    """Writer of one lease's checkpoints, in order.

    The event of a checkpoint, and those of checkpoints that it makes superfluous, are written once
    it is on the disk. An error of the disk is raised by the next call of any method.

    Args:
        lease: folder of the lease.
        events: event writer of the lease.
        config: configuration needed to use the weights.
        milestone_steps: steps whose checkpoints are retained.
    """

    def __init__(
        self,
        lease: LeaseDir,
        events: EventWriter,
        config: CheckpointConfig,
        milestone_steps: frozenset[int],
    ) -> None:
        self._lease = lease
        self._events = events
        self._config = config
        self._milestone_steps = milestone_steps
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._last_bytes = 0

    @property
    def interval_seconds(self) -> float:
        """Minimum seconds between rolling checkpoints, from their size and the spec."""
        latest_seconds = self._config.spec.checkpoint.latest_seconds
        return max(latest_seconds, self._last_bytes / MAX_BYTES_PER_SECOND)

    @property
    def busy(self) -> bool:
        """Return True while a checkpoint is being written.

        Raises:
            OSError: the last checkpoint could not be written.
        """
        if self._writing is not None and self._writing.done():
            self.flush()
        return self._writing is not None

    def write(
        self,
        *,
        kind: Literal["kept", "latest"],
        step: int,
        epoch: float,
        state: TrainingState,
        metrics: dict[str, float],
    ) -> None:
        """Start to write a checkpoint, after waiting for the previous one.

        It includes the events up to now. Arguments as of
        :func:`pmae.runs.checkpoints.write_checkpoint`; ``state`` must not be changed afterwards.

        Raises:
            OSError: the previous checkpoint could not be written.
        """
        self.flush()
        carried = self._events.carried()
        self._writing = self._thread.submit(self._write, kind, step, epoch, state, metrics, carried)

    def _write(
        self,
        kind: Literal["kept", "latest"],
        step: int,
        epoch: float,
        state: TrainingState,
        metrics: dict[str, float],
        carried: bytes,
    ) -> None:
        """Write a checkpoint and its events; runs in the thread."""
        manifest = write_checkpoint(
            self._lease,
            kind=kind,
            step=step,
            epoch=epoch,
            state=state,
            config=self._config,
            events=carried,
            metrics=metrics,
        )
        self._last_bytes = sum(facts.size for facts in manifest.files.values())
        self._events.write(manifest.event())
        if kind == "kept":
            spec = self._config.spec.checkpoint
            for name in retain(self._lease, spec, self._milestone_steps):
                self._events.write(CheckpointRemovedEvent(name=name))
        self._events.sync()

    def flush(self) -> None:
        """Wait until all checkpoints are on the disk.

        Raises:
            OSError: one could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Wait for the checkpoint under way, after an error in training; only log its own error."""
        self._thread.shutdown()
        error = self._writing.exception() if self._writing is not None else None
        if error is not None:
            _log.error("a checkpoint could not be written", exc_info=error)
