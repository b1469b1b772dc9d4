"""Helper process of the trainer: computes one device's part of every batch.

:mod:`pmae.training.process.distributed` starts it and writes its task to its standard input. Its
standard output is empty, or the reason why it failed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import torch

from pmae.basis.store import BasisStore
from pmae.data.registry import load_data
from pmae.data.transforms.standardize import PixelStatistics
from pmae.errors import PmaeError
from pmae.methods.base import method_for
from pmae.runs.checkpoints import TrainingState, read_manifest, read_state
from pmae.training.callbacks import Restore, fit
from pmae.training.module import PretrainModule
from pmae.training.process.distributed import RankTask, choose_accelerator, join
from pmae.training.process.signals import watch_supervisor


def main() -> int:
    """Compute until the run's steps are done; return the exit status."""
    _ignore_signals()
    reasons = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    task = RankTask.model_validate_json(_first_line(sys.stdin.fileno()))
    watch_supervisor(sys.stdin.fileno(), None)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=f"%(asctime)s %(levelname)s device {task.rank}: %(message)s",
    )
    try:
        _compute(task)
    except Exception as error:
        logging.getLogger(__name__).exception("device %d failed", task.rank)
        name = "" if isinstance(error, PmaeError) else f"{type(error).__name__}: "
        reasons.write(f"{name}{error}")
        reasons.close()
        return 1
    return 0


def _first_line(descriptor: int) -> bytes:
    """Read a line unbuffered: the watcher waits for the rest, the end of the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(descriptor, 1)
        if not piece:
            sys.exit(1)
        line += piece
    return line


def _compute(task: RankTask) -> None:
    spec = task.spec
    torch.set_num_threads(spec.threads)
    accelerator = choose_accelerator(spec.devices)
    join(task, accelerator)
    device = torch.device(f"cuda:{task.rank}" if accelerator == "cuda" else "cpu")
    data = load_data(spec.dataset, task.storage)
    digest = task.basis_digest
    basis = BasisStore(task.storage.bases_dir).load(digest).to(device) if digest else None
    first, state = _resume(task)
    # Weights and pixel statistics come from the first rank when the ranks have met.
    module = PretrainModule(
        spec,
        data,
        PixelStatistics(torch.zeros(data.image_shape), torch.ones(data.image_shape)),
        method_for(spec, basis),
        rank=task.rank,
    )
    fit(module, first, [Restore(state)], accelerator)


def _ignore_signals() -> None:
    """Ignore signals that a scheduler sends to the whole group: the trainer ends its helpers."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _resume(task: RankTask) -> tuple[int, TrainingState | None]:
    if task.checkpoint is None:
        return 0, None
    return read_manifest(task.checkpoint).step, read_state(task.checkpoint)


if __name__ == "__main__":
    sys.exit(main())
