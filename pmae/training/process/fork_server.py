"""A process that has imported what a trainer needs, and forks a trainer for each request.

``python -m pmae.training.process.fork_server CONTROL``, the number of a socket that it inherits.
Importing torch and Lightning takes seconds; a forked trainer starts at once, which is what a user
waits for after submitting a run, and after a crash. Everything else is as if it had been started by
``python -m pmae.train``: a session of its own, its own pipe, log, arguments and CUDA context.

Whoever wants a trainer sends one end of a socket pair over the control socket. On that:

1. the server says ``ready``
2. the client sends the arguments as JSON, with two descriptors: the trainer's standard input and
   its log
3. the server says ``pid N``, and when the trainer has ended ``status S`` (negative: a signal). What
   the trainer left of its process group is killed by then.

The server ends when nobody holds the other end of the control socket any more. Its trainers then go
on: each has its own supervisor's pipe.

The standard library's fork server does not serve. It answers only the process that started it, not
that process's forks (``ChildProcessError``), and a worker's fork is who needs a trainer; and it
takes over the whole environment, with the passwords that no trainer may learn.
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
    """A trainer to start."""

    arguments: list[str]
    standard_input: int
    log: int


@dataclass
class Server:
    """Answers requests until its owner is gone. :meth:`serve` returns in every child it forks."""

    control: socket.socket
    _connections: set[socket.socket] = field(default_factory=set)
    _trainers: dict[int, socket.socket] = field(default_factory=dict)

    def serve(self) -> Request | None:
        """Serve.

        Returns:
            None when the owner is gone; in a forked child, what that is to do.
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
        """Take a new client; False if there will be none any more."""
        data, descriptors, _, _ = socket.recv_fds(self.control, _MOST_BYTES, 1)
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            self._connections.add(connection)
            if self._tell(connection, READY):
                selector.register(connection, selectors.EVENT_READ)
        return bool(data)

    def _start(self, connection: socket.socket) -> Request | None:
        """Fork; returns the request in the child, None in the server."""
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
            # Not reaped yet, its number belongs to nobody else.
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
        """Close everything: in a child, what belongs to the server."""
        self.control.close()
        for connection in self._connections:
            connection.close()


def main() -> None:
    """Serve; in a forked child, be the trainer."""
    # Who is stopped from a terminal stops the owner, and that ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Blocked, not ignored: a trainer inherits it, and what it is sent before it can leave by it
    # waits until `StopSignal.install` unblocks it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    control = socket.socket(fileno=int(sys.argv[1]))
    _preload()
    server = Server(control)
    request = server.serve()
    if request is not None:
        server.close()
        _become_trainer(request)


def _preload() -> None:
    """Import what a trainer imports, and leave it where forked processes can share it."""
    import pmae.training.process.trainer
    import pmae.training.run  # noqa: F401

    if sys.modules["torch"].cuda.is_initialized():
        raise RuntimeError("CUDA was initialised by an import: no process can be forked from here")
    # They stay frozen in trainers: a last collection of them would take each trainer two seconds of
    # computing at its end, and copy the memory that it shares.
    gc.collect()
    gc.freeze()


def _become_trainer(request: Request) -> None:
    """What ``python -m pmae.train`` does in a new process."""
    os.dup2(request.standard_input, 0)
    os.dup2(request.log, 1)
    os.dup2(request.log, 2)
    os.close(request.standard_input)
    os.close(request.log)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = request.arguments
    # Where processes are listed it would look like the server.
    setproctitle(" ".join(["pmae.train", *request.arguments]))
    runpy.run_module("pmae.train", run_name="__main__", alter_sys=True)


def _remember(_number: int, _frame: FrameType | None) -> None:
    """The number was written to the wake-up descriptor, which is all that is needed."""


if __name__ == "__main__":
    main()
