"""Trainer processes, new and forked, for their supervisor."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from pmae.training.process.fork_server import READY
from pmae.training.process.signals import kill_group


class Trainer(Protocol):
    """A trainer in its own session, which reads its supervisor's pipe."""

    @property
    def pid(self) -> int:
        """Process id, which is also that of its process group."""

    @property
    def ended(self) -> bool:
        """True if the process has exited."""

    @property
    def exit_status(self) -> int | None:
        """Exit status; negative: a signal; None: unknown, or still running."""

    def say_alive(self) -> None:
        """Send a sign of life of the supervisor."""

    def terminate(self) -> None:
        """Ask it to checkpoint and exit (SIGTERM)."""

    def kill(self) -> None:
        """Kill its process group."""

    def close(self) -> None:
        """Kill it if it still runs, and release its resources."""


class _Pipe:
    """The writing end of a trainer's standard input."""

    def __init__(self) -> None:
        self.reading_end, self._writing_end = os.pipe()
        # Non-blocking: a trainer stopped by SIGSTOP reads nothing.
        os.set_blocking(self._writing_end, False)

    def say_alive(self) -> None:
        # A full pipe already has signs of life; a broken one belongs to an exited process.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._writing_end, b".")

    def close_reading_end(self) -> None:
        os.close(self.reading_end)

    def close(self) -> None:
        os.close(self._writing_end)


class NewTrainer:
    """A trainer in a new Python process."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._pipe = _Pipe()
        try:
            with log.open("ab") as file:
                self._process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=self._pipe.reading_end,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except BaseException:
            self._pipe.close()
            raise
        finally:
            self._pipe.close_reading_end()
        self.say_alive = self._pipe.say_alive

    @property
    def pid(self) -> int:
        """See :class:`Trainer`."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """See :class:`Trainer`."""
        return self._process.poll() is not None

    @property
    def exit_status(self) -> int | None:
        """See :class:`Trainer`."""
        return self._process.returncode

    def terminate(self) -> None:
        """See :class:`Trainer`."""
        self._process.terminate()

    def kill(self) -> None:
        """See :class:`Trainer`."""
        kill_group(self.pid)

    def close(self) -> None:
        """See :class:`Trainer`."""
        self.kill()
        self._process.wait()
        self._pipe.close()


class ForkedTrainer:
    """A trainer that a fork server started.

    The server reports its exit status. If the server exits, the trainer keeps running, and only
    the fact that it ended can be detected.
    """

    def __init__(
        self,
        connection: socket.socket,
        arguments: Sequence[str],
        log: Path,
        *,
        timeout_seconds: float,
    ) -> None:
        """Request a trainer from the server at the other end of ``connection``.

        Raises:
            OSError: it has exited, or does not answer within ``timeout_seconds``.
        """
        self._said = b""
        self._status: int | None = None
        self._connection = connection
        self._pipe = _Pipe()
        try:
            self._connection.settimeout(timeout_seconds)
            self._next_line(expected=READY.strip())
            with log.open("ab") as file:
                request = json.dumps(list(arguments)).encode()
                descriptors = [self._pipe.reading_end, file.fileno()]
                socket.send_fds(self._connection, [request], descriptors)
            self.pid = int(self._next_line(expected=b"pid").split()[1])
            self._gone = _process_descriptor(self.pid)
        except BaseException:
            # If one was forked nevertheless, it has lost its pipe and exits at once.
            self._pipe.close()
            self._connection.close()
            raise
        finally:
            self._pipe.close_reading_end()
        self._connection.setblocking(False)
        self.say_alive = self._pipe.say_alive

    def _next_line(self, *, expected: bytes) -> bytes:
        while b"\n" not in self._said:
            piece = self._connection.recv(4096)
            if not piece:
                raise ConnectionError("the fork server has exited")
            self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        if not line.startswith(expected):
            raise ConnectionError(f"the fork server sent {line!r}; expected {expected!r}")
        return line

    @property
    def ended(self) -> bool:
        """See :class:`Trainer`."""
        if self._status is not None:
            return True
        try:
            self._status = int(self._next_line(expected=b"status").split()[1])
        except BlockingIOError:
            return False
        except OSError:  # the server has exited
            return self._gone is None or bool(select.select([self._gone], [], [], 0)[0])
        return True

    @property
    def exit_status(self) -> int | None:
        """See :class:`Trainer`."""
        return self._status

    def terminate(self) -> None:
        """See :class:`Trainer`."""
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        if self._gone is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._gone, number)

    def kill(self) -> None:
        """See :class:`Trainer`."""
        # Once the server has reported the status, it has killed the group and the id may be reused.
        if self._status is None:
            kill_group(self.pid)
            self._send(signal.SIGKILL)  # at first it has no group yet

    def close(self) -> None:
        """See :class:`Trainer`."""
        self.kill()
        if self._gone is not None:
            select.select([self._gone], [], [])
            os.close(self._gone)
        self._pipe.close()
        self._connection.close()


def _process_descriptor(pid: int) -> int | None:
    """Open a descriptor that becomes readable when the process ends; None if it has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
