"""The fork server of a worker: trainers that start at once."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pmae.runtime.secret_files import without_secrets
from worker.supervision.trainers import ForkedTrainer, NewTrainer, Trainer

_ENVIRONMENT = {
    # Counting the GPUs must not initialise CUDA, which a forked process could not use then.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # NumPy starts threads when it is imported; a fork leaves them behind.
    "OPENBLAS_NUM_THREADS": "1",
}
"""Set for every trainer, so that a new one computes the same bits as a forked one."""
_log = logging.getLogger(__name__)


class ForkServer:
    """See :mod:`pmae.training.process.fork_server`.

    The worker's main process starts it and keeps it running. The forked process that executes tasks
    inherits the control socket, and asks.
    """

    def __init__(self) -> None:
        # Messages with borders, so that several processes can send at once.
        self._control, self._servers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def supported() -> bool:
        """Whether this system can fork a process that has imported torch."""
        return sys.platform == "linux"

    def tend(self) -> None:
        """Start the server, or start it again if it has ended."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            _log.warning("the fork server ended with status %d", self._process.returncode)
        descriptor = self._servers_end.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pmae.training.process.fork_server", str(descriptor)],
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
            env=_environment(),
            start_new_session=True,
        )

    def connect(self) -> socket.socket:
        """A connection on which the server says that it is ready, as soon as it is.

        Raises:
            OSError: there are too many requests that no server has taken.
        """
        ours, servers = socket.socketpair()
        with servers:
            socket.send_fds(self._control, [b"."], [servers.fileno()], socket.MSG_DONTWAIT)
        return ours

    def close(self) -> None:
        """End the server; trainers go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control.close()
        self._servers_end.close()


def start_trainer(
    arguments: Sequence[str],
    log: Path,
    *,
    fork_server: ForkServer | None,
    patience_seconds: float = 10.0,
) -> Trainer:
    """Start ``python -m pmae.train ARGUMENTS``, at once if there is a fork server.

    Args:
        arguments: of the trainer.
        log: gets what it prints.
        fork_server: if there is one.
        patience_seconds: how long to wait for one that does not answer, as it does while it
            imports, before a new process is started.

    Raises:
        OSError: the log cannot be written, or the system starts no more processes.
    """
    if fork_server is not None:
        try:
            return ForkedTrainer(
                fork_server.connect(), arguments, log, patience_seconds=patience_seconds
            )
        except OSError as error:
            _log.warning("no trainer was forked (%s): starting a new process", error)
    command = [sys.executable, "-m", "pmae.train", *arguments]
    return NewTrainer(command, log, _environment())


def _environment() -> dict[str, str]:
    """Of trainers: they reach neither database nor broker, and so learn no password of either."""
    return {**without_secrets(), **_ENVIRONMENT}
