"""Errors of the client (tree: :mod:`pmae.client`), and their mapping from httpx's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from pydantic import ValidationError

from pmae.errors import ClientError
from pmae.schema import Problem


class ServiceUnreachableError(ClientError):
    """The service gave no answer."""


class UnexpectedAnswerError(ClientError):
    """The answer is not one of this API: another program, or another version."""


class InvalidKeyError(ClientError):
    """The API key is malformed; nothing was sent."""


class DownloadError(ClientError):
    """A download is incomplete or does not match its digest, or there is no such file."""


class ApiError(ClientError):
    """The service refused a request.

    Args:
        problem: body of the answer.
        retry_after_seconds: value of its ``Retry-After`` header, if any.
    """

    def __init__(self, problem: Problem, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        """Return a message that names each bad field."""
        detail = self.problem.detail or self.problem.title
        missing = [
            f"{field.pointer}: {field.message}"
            for field in self.problem.errors
            if field.message not in detail
        ]
        return f"{detail} ({'; '.join(missing)})" if missing else detail


def may_pass(error: ClientError) -> bool:
    """Return True if a retry may succeed: no answer, a rate limit, or an error of the server.

    Refusals of the request itself (no such run, an invalid key) would only repeat.
    """
    if isinstance(error, ApiError):
        status = error.problem.status
        return status == httpx.codes.TOO_MANY_REQUESTS or httpx.codes.is_server_error(status)
    cause = error.__cause__
    return isinstance(cause, httpx.TransportError) and not isinstance(
        cause, httpx.UnsupportedProtocol
    )


@contextmanager
def mapped_errors(address: str) -> Iterator[None]:
    """Map errors of httpx inside the block to :class:`ClientError`, naming ``address``."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise ServiceUnreachableError(f"no answer from {address} in time") from error
    except httpx.UnsupportedProtocol as error:
        raise ServiceUnreachableError(
            f"{address!r} is not an address; expected for example http://127.0.0.1:8000"
        ) from error
    except httpx.TransportError as error:
        raise ServiceUnreachableError(f"no answer from {address}: {_reason(error)}") from error
    except httpx.InvalidURL as error:
        raise ServiceUnreachableError(f"{address!r} is not an address: {error}") from error
    except (httpx.HTTPError, httpx.StreamError, httpx.CookieConflict) as error:
        raise UnexpectedAnswerError(
            f"{address} answered, but not as this service does: {_reason(error)}"
        ) from error


def api_error(response: httpx.Response) -> ApiError:
    """Make the error of a refusal; ``response`` must have been read."""
    return ApiError(_problem(response), retry_after_seconds=_retry_after(response))


def _problem(response: httpx.Response) -> Problem:
    """Parse the body, or make up a problem if a proxy or another program has answered."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        status = f"{response.status_code} {response.reason_phrase}".strip()
        return Problem(
            title=response.reason_phrase or status,
            status=response.status_code,
            code=f"http_{response.status_code}",
            detail=f"{response.request.method} {response.request.url} failed with status {status}",
        )


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
