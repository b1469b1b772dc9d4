"""The fork server of a worker: starts trainers without the delay of their imports."""

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
    # Counting GPUs must not initialise CUDA, which forked processes could not use then.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # NumPy starts threads on import, which do not survive a fork.
    "OPENBLAS_NUM_THREADS": "1",
}
"""Environment of every trainer, so that new and forked ones compute the same bits."""
_log = logging.getLogger(__name__)


class ForkServer:
    """Client and supervisor of a :mod:`pmae.training.process.fork_server`.

    The worker's main process starts the server and restarts it. The forked child that executes
    tasks inherits the control socket, and sends requests.
    """

    def __init__(self) -> None:
        # Datagrams keep their boundaries, so that several processes can send.
        self._control, self._servers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def supported() -> bool:
        """Return True if this system can fork a process that has imported torch."""
        return sys.platform == "linux"

    def tend(self) -> None:
        """Start the server, or restart it if it has exited."""
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
        """Open a connection, on which the server reports when it is ready.

        Raises:
            OSError: too many requests wait for a server.
        """
        ours, servers = socket.socketpair()
        with servers:
            socket.send_fds(self._control, [b"."], [servers.fileno()], socket.MSG_DONTWAIT)
        return ours

    def close(self) -> None:
        """Stop the server; trainers keep running."""
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
    timeout_seconds: float = 10.0,
) -> Trainer:
    """Start ``python -m pmae.train ARGUMENTS``, by the fork server if there is one.

    Args:
        arguments: of the trainer.
        log: file for its output.
        fork_server: None to start a new process.
        timeout_seconds: time to wait for a server that does not answer, as during its imports,
            before a new process is started.

    Raises:
        OSError: the log cannot be written, or no process can be started.
    """
    if fork_server is not None:
        try:
            return ForkedTrainer(
                fork_server.connect(), arguments, log, timeout_seconds=timeout_seconds
            )
        except OSError as error:
            _log.warning("the trainer was not forked (%s); starting a new process", error)
    command = [sys.executable, "-m", "pmae.train", *arguments]
    return NewTrainer(command, log, _environment())


def _environment() -> dict[str, str]:
    """Build the environment of trainers, without the passwords of database and broker."""
    return {**without_secrets(), **_ENVIRONMENT}
