"""Data-parallel training (DDP): several devices of one machine share each batch.

The trainer is rank 0. It alone writes events and checkpoints, validates, and decides when training
ends; the helpers (:mod:`pmae.training.process.distributed_worker`) only compute. A helper dies with
the trainer, and a trainer whose helper was killed dies by a signal too, so that the run is resumed
from its newest checkpoint.

Lightning would start the other processes by running the trainer's own command line again, which
would take leases and read the supervisor's pipe; they are started here instead. `torchrun` and
`torch.multiprocessing` do not serve either. Under torchrun's agent no rank is the trainer, whose
death by a signal says "resume me". A helper of `torch.multiprocessing` that waits for the others in
C++ outlives a killed trainer: all that it is sent is SIGINT, which Python never gets to handle.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pydantic import BaseModel, ConfigDict
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed

from pmae.errors import TrainingError
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec

_COLLECTIVE_TIMEOUT = timedelta(hours=24)
"""Long, since helpers wait while the first rank validates; a dead process is noticed sooner."""
_LEAVE_SECONDS = 60.0
_NOTICE_SECONDS = 20.0


class RankTask(BaseModel):
    """Task of a helper process, one line of JSON on its standard input."""

    model_config = ConfigDict(frozen=True)

    spec: ExperimentSpec
    storage: StorageSettings
    basis_digest: str | None
    checkpoint: Path | None
    rank: int = 0
    rendezvous: Path = Path()


def choose_accelerator(devices: int) -> str:
    """Choose ``cuda`` if there are GPUs, else ``cpu``.

    Raises:
        TrainingError: there are GPUs, but fewer than ``devices``.
    """
    if not torch.cuda.is_available():
        return "cpu"
    if devices > torch.cuda.device_count():
        raise TrainingError(
            f"devices: {devices} GPUs requested; this process sees {torch.cuda.device_count()}"
        )
    return "cuda"


def trainer_options(devices: int, rank: int) -> dict[str, Any]:
    """Build the options of Lightning's trainer for data-parallel training."""
    if devices == 1:
        return {"devices": 1}
    # With find_unused_parameters DDP keeps its first layout of buckets, so that a resumed process
    # adds gradients in the same order. PMAE does not use the mask token.
    strategy = DDPStrategy(find_unused_parameters=True, timeout=_COLLECTIVE_TIMEOUT)
    options: dict[str, Any] = {"devices": devices, "strategy": strategy}
    return options | {"plugins": [_OneMachine(rank)], "use_distributed_sampler": False}


class _OneMachine(LightningEnvironment):
    """Lightning environment with a fixed rank, whose other processes are already running."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0


def join(task: RankTask, accelerator: str) -> None:
    """Join the process group; ranks find each other through a file and communicate on loopback."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    if accelerator == "cuda":
        torch.cuda.set_device(task.rank)
    distributed.init_process_group(
        "nccl" if accelerator == "cuda" else "gloo",
        init_method=task.rendezvous.as_uri(),
        rank=task.rank,
        world_size=task.spec.devices,
        timeout=_COLLECTIVE_TIMEOUT,
    )


class Ranks:
    """Context in which a run's helper processes are running; with one device there are none.

    Args:
        task: task of rank 0.
        accelerator: ``cuda`` or ``cpu``.
    """

    def __init__(self, task: RankTask, accelerator: str) -> None:
        self.accelerator = accelerator
        self._task = task
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._reasons: list[str] = []
        self._closing = False

    def __enter__(self) -> None:
        """Start the helpers and join the process group with them."""
        if self._task.spec.devices == 1:
            return
        folder = Path(tempfile.mkdtemp(prefix="pmae-ranks-"))
        task = self._task.model_copy(update={"rendezvous": folder / "store"})
        try:
            for rank in range(1, task.spec.devices):
                self._start(task.model_copy(update={"rank": rank}))
            join(task, self.accelerator)
        except BaseException:
            self._leave(wait_seconds=0)
            raise
        finally:
            with suppress(OSError):
                task.rendezvous.unlink(missing_ok=True)
                folder.rmdir()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the helpers to end; kill them after an error.

        Raises:
            TrainingError: a helper failed, which caused the error of this process.
        """
        if not self._helpers:
            return
        if isinstance(error, RuntimeError):
            self._wait_for_a_reason()
        self._leave(wait_seconds=0 if error else _LEAVE_SECONDS)
        if self._reasons and isinstance(error, RuntimeError):
            raise TrainingError("; ".join(self._reasons)) from error

    def _start(self, task: RankTask) -> None:
        # SIGTERM is blocked until the helper ignores it: a scheduler may signal the whole group.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            helper = subprocess.Popen(
                [sys.executable, "-m", "pmae.training.process.distributed_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._helpers.append(helper)
        assert helper.stdin is not None
        # The pipe stays open: a helper ends when it is closed.
        helper.stdin.write(task.model_dump_json().encode() + b"\n")
        helper.stdin.flush()
        threading.Thread(
            target=self._watch, args=(helper, task.rank), name=f"rank-{task.rank}", daemon=True
        ).start()

    def _watch(self, helper: subprocess.Popen[bytes], rank: int) -> None:
        assert helper.stdout is not None
        reason = helper.stdout.read().decode(errors="replace").strip()
        status = helper.wait()
        if status == 0 or self._closing:
            return
        if status > 0:
            self._reasons.append(f"device {rank}: {reason or f'its process ended with {status}'}")
            # This process notices the broken connection and reports it, unless it waits on a GPU.
            deadline = time.monotonic() + _NOTICE_SECONDS
            while time.monotonic() < deadline and not self._closing:
                time.sleep(0.1)
        if not self._closing:
            self._die(f"the process of device {rank} ended with {status}")

    def _wait_for_a_reason(self) -> None:
        """Wait for the reason of a failed helper, whose connection breaks before its end."""
        deadline = time.monotonic() + _NOTICE_SECONDS / 4
        while time.monotonic() < deadline and not self._reasons:
            if all(helper.poll() is None for helper in self._helpers):
                time.sleep(0.1)
            elif any((helper.poll() or 0) < 0 for helper in self._helpers):
                self._die("a process that shares the batches was killed")

    def _die(self, reason: str) -> NoReturn:
        sys.stderr.write(f"{reason}: stopping at once, to be resumed\n")
        sys.stderr.flush()
        for helper in self._helpers:
            helper.kill()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def _leave(self, wait_seconds: float) -> None:
        self._closing = True
        deadline = time.monotonic() + wait_seconds
        for helper in self._helpers:
            with suppress(subprocess.TimeoutExpired):
                helper.wait(max(0.0, deadline - time.monotonic()))
        for helper in self._helpers:
            helper.kill()
            helper.wait()
            assert helper.stdin is not None
            helper.stdin.close()
        self._helpers = []
        if distributed.is_initialized():
            distributed.destroy_process_group()
