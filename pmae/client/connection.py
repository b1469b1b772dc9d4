"""Connection to one service: send requests, retry, and parse answers."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import SecretStr, TypeAdapter, ValidationError

from pmae.client.errors import (
    InvalidKeyError,
    ServiceUnreachableError,
    UnexpectedAnswerError,
    api_error,
    mapped_errors,
    may_pass,
)
from pmae.runtime.loopback import is_loopback

API_PREFIX = "/api/v1"
Answers = dict[str, httpx.Response]
"""Answers to GET requests, by URL."""
RETRY_SECONDS = (0.2, 0.8, 2.0)
"""Waits before each retry of a request to queue a run whose answer was lost."""
_CARRIED = re.compile(r"[!-~]+")
_T = TypeVar("_T")
_Item_co = TypeVar("_Item_co", covariant=True)


class Page(Protocol[_Item_co]):
    """A page of a list."""

    @property
    def items(self) -> Sequence[_Item_co]:
        """Items of the page."""

    @property
    def next_cursor(self) -> str | None:
        """Cursor of the next page; None on the last page."""


def path_of(*segments: str) -> str:
    """Build a path below the API's prefix, with every segment percent-encoded."""
    return "".join("/" + quote(segment, safe="") for segment in segments)


class Connection:
    """Base class of the parts of :class:`~pmae.client.PmaeClient`, which add the operations."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | SecretStr | None = None,
        timeout: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/").removesuffix(API_PREFIX)
        self._api_key = None if api_key is None else _secret(api_key)
        self._answers: Answers | None = None
        self._streams: set[httpx.Response] = set()
        with mapped_errors(self.base_url):
            self._http = httpx.Client(
                base_url=self.base_url + API_PREFIX,
                timeout=timeout,
                transport=transport,
                # A proxy named by the environment cannot reach this machine's loopback.
                trust_env=not is_loopback(httpx.URL(self.base_url).host),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, also those from which another thread reads a stream."""
        for response in tuple(self._streams):
            _hang_up(response)
        self._http.close()

    def is_closed(self) -> bool:
        """Return True after :meth:`close`."""
        return self._http.is_closed

    def with_key(self, api_key: str | SecretStr) -> Self:
        """Return a client of the same service with another key; both share their connections."""
        other = copy(self)
        other._api_key = _secret(api_key)  # noqa: SLF001 - its own class
        return other

    def remembering(self, answers: Answers) -> Self:
        """Return a client that caches its successful GET answers in ``answers``.

        Every other request empties ``answers``. Both clients share their connections.
        """
        other = copy(self)
        other._answers = answers  # noqa: SLF001 - its own class
        return other

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        with mapped_errors(self.base_url):
            params = {k: v for k, v in arguments.pop("params", {}).items() if v is not None}
            headers = {**arguments.pop("headers", {}), **self._authorization}
            request = self._http.build_request(
                method, path, params=params, headers=headers, **arguments
            )
            answers = {} if self._answers is None else self._answers
            if method != "GET":
                answers.clear()
            elif str(request.url) in answers:
                return answers[str(request.url)]
            response = self._http.send(request)
            if method == "GET" and response.is_success:
                answers[str(request.url)] = response
            return response

    @property
    def _authorization(self) -> dict[str, str]:
        if self._api_key is None:
            return {}
        return {"Authorization": f"Bearer {self._api_key.get_secret_value()}"}

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        response = self._request(method, path, **arguments)
        if not response.is_success:
            raise api_error(response)
        return response

    def _send_once(self, path: str, key: str | None, **arguments: Any) -> httpx.Response:
        """POST a request that queues a run; if the answer is lost, retry with the same key."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        for tries, pause in enumerate((*RETRY_SECONDS, None)):
            try:
                return self._send("POST", path, headers=headers, **arguments)
            except ServiceUnreachableError as error:
                never_sent = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
                if pause is None or not may_pass(error) or (never_sent and tries == 0):
                    raise
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _stream(
        self, path: str, headers: Mapping[str, str], **arguments: Any
    ) -> Iterator[httpx.Response]:
        with (
            mapped_errors(self.base_url),
            self._http.stream(
                "GET", path, headers={**headers, **self._authorization}, **arguments
            ) as response,
        ):
            if not response.is_success:
                response.read()
                raise api_error(response)
            self._streams.add(response)
            try:
                yield response
            finally:
                self._streams.discard(response)

    def _pages(self, path: str, kind: type[Page[_T]], params: Mapping[str, Any]) -> Iterator[_T]:
        """Yield the items of a list, requesting each page as it is needed."""
        cursor = None
        while True:
            response = self._send("GET", path, params={**params, "cursor": cursor})
            page: Page[_T] = self._read(response, kind)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def _read(self, response: httpx.Response, kind: type[_T] | TypeAdapter[_T]) -> _T:
        adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
        try:
            return adapter.validate_json(response.content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UnexpectedAnswerError(
                f"{response.request.url} answered, but not as this service does "
                f"({where or 'body'}: {first['msg']}); client and service may differ in version"
            ) from error


def _hang_up(response: httpx.Response) -> None:
    """Shut down a response's socket, so that a thread that reads from it fails at once."""
    network = response.extensions.get("network_stream")
    connected = None if network is None else network.get_extra_info("socket")
    if connected is not None:
        with suppress(OSError):  # it is closed already
            connected.shutdown(socket.SHUT_RDWR)


def _secret(api_key: str | SecretStr) -> SecretStr:
    """Wrap a key so that no traceback or repr shows it.

    Raises:
        InvalidKeyError: the key cannot be sent in a header.
    """
    secret = SecretStr(api_key) if isinstance(api_key, str) else api_key
    if not _CARRIED.fullmatch(secret.get_secret_value()):
        raise InvalidKeyError(
            "the API key is malformed: it is empty, or contains a space, a line end or a non-ASCII "
            "character; expected pmae_..., as `pmae keys create` printed it"
        )
    return secret
