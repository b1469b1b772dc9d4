"""A network between two programs that can be cut in the middle of an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Passes connections on to ``target``, one after the other, and counts what comes back."""

    target: tuple[str, int]
    cut_after: int | None = None
    """Bytes of answers after which the connection is cut, once; None: never."""
    passed: int = 0
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        """Where to connect to."""
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        """Until the listener is closed."""
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                with near, socket.create_connection(self.target) as far:
                    asking = threading.Thread(target=_copy, args=(near, far))
                    asking.start()
                    self._answer(far, near)
                    asking.join()

    def _answer(self, far: socket.socket, near: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(16_384):
                if self.cut_after is not None and self.passed + len(data) > self.cut_after:
                    near.sendall(data[: self.cut_after - self.passed])
                    self.cut_after = None
                    break
                near.sendall(data)
                self.passed += len(data)
        for end in (near, far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(16_384):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def relay_to(port: int, *, cut_after: int | None = None) -> Iterator[Relay]:
    """A relay to a local port until the block ends."""
    relay = Relay(("127.0.0.1", port), cut_after)
    thread = threading.Thread(target=relay.serve)
    thread.start()
    try:
        yield relay
    finally:
        # Closing alone does not wake a thread that waits in accept.
        relay.listener.shutdown(socket.SHUT_RDWR)
        relay.listener.close()
        thread.join(timeout=60)
