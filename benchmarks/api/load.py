"""Load of clients in a closed loop: each sends its next request after the answer to the last.

A client is one thread with a persistent connection of the standard library. A request costs it
about 0.2 ms, so that the server dominates although both share the machine's cores. All servers are
measured by the same code.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

TIMEOUT_SECONDS = 120
_CHUNK_BYTES = 1_048_576


@dataclass(frozen=True)
class Address:
    """Address of a server: port, and path prefix and headers of each request."""

    port: int
    prefix: str = ""
    headers: Mapping[str, str] | None = None


class Client:
    """One connection. Use it in a ``with`` block."""

    def __init__(self, address: Address) -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", address.port, timeout=TIMEOUT_SECONDS
        )
        self._prefix = address.prefix
        self._headers = dict(address.headers or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def get(self, path: str) -> bytes:
        """Send a GET request and return the body of the answer.

        Raises:
            RuntimeError: the status is 400 or above.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """Send a POST request with a JSON body, likewise."""
        return self._ask("POST", path, json.dumps(body).encode())

    def count_bytes(self, path: str) -> int:
        """Count the bytes of a body, without keeping it."""
        buffer = bytearray(_CHUNK_BYTES)
        self._connection.request("GET", self._prefix + path, headers=self._headers)
        response = self._connection.getresponse()
        count = 0
        while read := response.readinto(buffer):
            count += read
        self._check(response, "GET", path, b"")
        return count

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = self._headers if body is None else self._headers | {"Content-Type": _JSON}
        self._connection.request(method, self._prefix + path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        self._check(response, method, path, content)
        return content

    def _check(
        self, response: http.client.HTTPResponse, method: str, path: str, content: bytes
    ) -> None:
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:500]!r}")


_JSON = "application/json"
Work = Callable[[Client], object]


@dataclass(frozen=True)
class Load:
    """Durations of a closed loop.

    Attributes:
        seconds: of each request, in any order.
        elapsed: from the first request to the last answer.
    """

    seconds: tuple[float, ...]
    elapsed: float

    @classmethod
    def together(cls, loads: Sequence[Load]) -> Load:
        """Combine loops that ran one after the other."""
        return cls(
            tuple(seconds for load in loads for seconds in load.seconds),
            sum(load.elapsed for load in loads),
        )

    @property
    def per_second(self) -> float:
        """Requests a second, all clients together."""
        return len(self.seconds) / self.elapsed

    def milliseconds(self, percentile: float) -> float:
        """A percentile of the requests' durations."""
        return float(np.percentile(self.seconds, percentile)) * 1000


def closed_loop(address: Address, work: Work, *, clients: int, requests: int) -> Load:
    """Let ``clients`` do ``work`` at the same time, ``requests`` times each."""
    seconds: list[float] = []
    faults: list[BaseException] = []
    start = threading.Barrier(clients + 1)

    def serve() -> None:
        own: list[float] = []
        try:
            with Client(address) as client:
                start.wait()
                for _ in range(requests):
                    began = time.perf_counter()
                    work(client)
                    own.append(time.perf_counter() - began)
        except Exception as error:  # noqa: BLE001 - raised again below, by the waiting thread
            start.abort()
            faults.append(error)
        seconds.extend(own)

    threads = [threading.Thread(target=serve) for _ in range(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    if faults:
        raise faults[0]
    return Load(tuple(seconds), elapsed)
