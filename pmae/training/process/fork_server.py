"""Fork server: a process with the trainer's imports, which forks a trainer per request.

``python -m pmae.training.process.fork_server CONTROL``, with the number of an inherited socket.
Importing torch and Lightning takes seconds; a forked trainer starts at once, which users notice
after submitting a run, and after a crash. Otherwise it is like one started by
``python -m pmae.train``: with its own session, pipe, log, arguments and CUDA context.

A client sends one end of a socket pair over the control socket. On that pair:

1. the server sends ``ready``
2. the client sends the arguments as JSON, with two descriptors: the trainer's standard input and
   its log
3. the server sends ``pid N``, and when the trainer has ended ``status S`` (negative: a signal). By
   then the rest of the trainer's process group has been killed.

The server ends when the other end of the control socket is closed everywhere. Its trainers
continue: each has its own supervisor's pipe.

The standard library's fork server is not used. It answers only the process that started it, not
that process's forks (``ChildProcessError``), which need the trainers here; and it inherits the
whole environment, with passwords that no trainer may see.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from dataclasses import dataclass, field
from types import FrameType

from setproctitle import setproctitle

from pmae.training.process.signals import kill_group

READY = b"ready\n"
_MOST_BYTES = 65_536
_DESCRIPTORS = 2


@dataclass(frozen=True)
class Request:
    """Request to start a trainer."""

    arguments: list[str]
    standard_input: int
    log: int


@dataclass
class Server:
    """Server that forks trainers; :meth:`serve` also returns in every forked child."""

    control: socket.socket
    _connections: set[socket.socket] = field(default_factory=set)
    _trainers: dict[int, socket.socket] = field(default_factory=dict)

    def serve(self) -> Request | None:
        """Answer requests until the owner is gone.

        Returns:
            None when the owner is gone; in a forked child, its request.
        """
        wake_up, signalled = socket.socketpair()
        wake_up.setblocking(False)
        signalled.setblocking(False)
        signal.set_wakeup_fd(signalled.fileno())
        signal.signal(signal.SIGCHLD, _remember)
        with selectors.DefaultSelector() as selector, wake_up, signalled:
            selector.register(self.control, selectors.EVENT_READ)
            selector.register(wake_up, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    if source is self.control:
                        if not self._greet(selector):
                            return None
                    elif source is wake_up:
                        wake_up.recv(4096)
                        self._reap()
                    else:
                        selector.unregister(source)
                        request = self._start(source)
                        if request is not None:
                            signal.set_wakeup_fd(-1)
                            return request

    def _greet(self, selector: selectors.BaseSelector) -> bool:
        """Accept a new client; return False if the control socket is closed."""
        data, descriptors, _, _ = socket.recv_fds(self.control, _MOST_BYTES, 1)
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            self._connections.add(connection)
            if self._tell(connection, READY):
                selector.register(connection, selectors.EVENT_READ)
        return bool(data)

    def _start(self, connection: socket.socket) -> Request | None:
        """Fork a trainer; return the request in the child, None in the server."""
        descriptors: list[int] = []
        try:
            data, descriptors, _, _ = socket.recv_fds(connection, _MOST_BYTES, _DESCRIPTORS)
            arguments = json.loads(data) if len(descriptors) == _DESCRIPTORS else None
        except (OSError, ValueError):
            arguments = None
        if arguments is None:  # the client went away before it asked
            self._drop(connection)
        elif (pid := os.fork()) == 0:
            os.setsid()
            return Request(arguments, *descriptors)
        else:
            self._trainers[pid] = connection
            self._tell(connection, b"pid %d\n" % pid)
        for descriptor in descriptors:
            os.close(descriptor)
        return None

    def _reap(self) -> None:
        for pid, connection in list(self._trainers.items()):
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            # Not reaped yet, so the pid is still its own.
            kill_group(pid)
            _, status = os.waitpid(pid, 0)
            del self._trainers[pid]
            self._tell(connection, b"status %d\n" % os.waitstatus_to_exitcode(status))
            self._drop(connection)

    def _tell(self, connection: socket.socket, message: bytes) -> bool:
        try:
            connection.sendall(message)
        except OSError:  # the client is gone; its trainer ends by its own pipe
            self._drop(connection)
            return False
        return True

    def _drop(self, connection: socket.socket) -> None:
        self._connections.discard(connection)
        connection.close()

    def close(self) -> None:
        """Close the server's sockets, for use in a forked child."""
        self.control.close()
        for connection in self._connections:
            connection.close()


def main() -> None:
    """Serve requests; in a forked child, run the trainer."""
    # Ctrl-C in a terminal stops the owner, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Blocked, not ignored: a trainer inherits the mask, and a SIGTERM that arrives early stays
    # pending until `StopSignal.install` unblocks it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    control = socket.socket(fileno=int(sys.argv[1]))
    _preload()
    server = Server(control)
    request = server.serve()
    if request is not None:
        server.close()
        _become_trainer(request)


def _preload() -> None:
    """Import the trainer's modules, in memory that forked processes share."""
    import pmae.training.process.trainer
    import pmae.training.run  # noqa: F401

    if sys.modules["torch"].cuda.is_initialized():
        raise RuntimeError("CUDA was initialised by an import: no process can be forked from here")
    # Frozen objects are never collected: a final collection would cost each trainer two seconds,
    # and copy the shared memory.
    gc.collect()
    gc.freeze()


def _become_trainer(request: Request) -> None:
    """Run the trainer in this process, as ``python -m pmae.train`` does."""
    os.dup2(request.standard_input, 0)
    os.dup2(request.log, 1)
    os.dup2(request.log, 2)
    os.close(request.standard_input)
    os.close(request.log)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = request.arguments
    # Otherwise process lists would show it as the server.
    setproctitle(" ".join(["pmae.train", *request.arguments]))
    runpy.run_module("pmae.train", run_name="__main__", alter_sys=True)


def _remember(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the signal's number was already written to the wake-up descriptor."""


if __name__ == "__main__":
    main()
