"""What the client makes of a connection that breaks and of answers that are none."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from pmae.client import (
    ApiError,
    ClientError,
    PmaeClient,
    ServiceUnreachableError,
    UnexpectedAnswerError,
)
from pmae.schema import (
    Problem,
    ProblemField,
)
from tests.support.clients import client_over


def subclasses(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from subclasses(child)


HTTPX_ERRORS = [
    error
    for root in (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict)
    for error in subclasses(root)
]


def make(error: type[Exception]) -> Exception:
    if error in (httpx.StreamConsumed, httpx.StreamClosed, httpx.ResponseNotRead) or (
        error is httpx.RequestNotRead
    ):
        return error()
    if error is httpx.HTTPStatusError:
        request = httpx.Request("GET", "http://service")
        return httpx.HTTPStatusError("said no", request=request, response=httpx.Response(500))
    return error("it broke")


@pytest.mark.parametrize("error", HTTPX_ERRORS, ids=lambda error: error.__name__)
def test_every_error_of_httpx_becomes_one_of_ours(error: type[Exception]) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise make(error)

    unreachable = issubclass(error, (httpx.TransportError, httpx.InvalidURL))
    expected = ServiceUnreachableError if unreachable else UnexpectedAnswerError
    with client_over(broken) as client:
        with pytest.raises(ClientError) as caught:
            client.runs()
        assert type(caught.value) is expected
        assert caught.value.__cause__ is not None
        with pytest.raises(expected):
            next(client.events("a"))


@pytest.mark.parametrize("address", ["service:80", "http://[::x", "ftp://service", ""])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(ServiceUnreachableError, match="not an address"), PmaeClient(address) as c:
        c.runs()


def test_nothing_listening_is_told_with_the_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with PmaeClient(url) as client, pytest.raises(ServiceUnreachableError, match=url):
            client.ready()


def test_a_refusal_carries_the_problem_and_names_each_bad_field() -> None:
    problem = Problem(
        title="Unprocessable Entity",
        status=422,
        code="invalid_request",
        detail="the request is invalid: /masking/ratio: 1.5 is too much",
        errors=[
            ProblemField(pointer="/masking/ratio", message="1.5 is too much"),
            ProblemField(pointer="/epochs", message="must be positive"),
        ],
    )
    with (
        client_over(lambda _: httpx.Response(422, content=problem.model_dump_json())) as client,
        pytest.raises(ApiError) as caught,
    ):
        client.submit({"epochs": 0})
    assert caught.value.problem == problem
    assert str(caught.value) == (
        "the request is invalid: /masking/ratio: 1.5 is too much (/epochs: must be positive)"
    )


def test_an_error_page_of_something_else_is_a_refusal_too() -> None:
    with (
        client_over(lambda _: httpx.Response(502, text="<h1>Bad gateway</h1>")) as client,
        pytest.raises(ApiError, match="502 Bad Gateway") as caught,
    ):
        client.runs()
    assert caught.value.problem.code == "http_502"


def test_a_redirect_is_not_taken_for_an_answer() -> None:
    away = httpx.Response(302, headers={"location": "http://elsewhere/"})
    with client_over(lambda _: away) as client, pytest.raises(ApiError, match="302"):
        client.runs()


def test_when_to_try_again_is_passed_on() -> None:
    problem = Problem(title="Busy", status=503, code="busy", detail="too much waits")
    answer = httpx.Response(503, content=problem.model_dump_json(), headers={"retry-after": "7"})
    with client_over(lambda _: answer) as client, pytest.raises(ApiError) as caught:
        client.reconstruct("a-00000001")
    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize("body", ["", "<html>", "{}", '{"items": [{"id": 1}]}'])
def test_an_answer_of_another_program_is_told_as_such(body: str) -> None:
    with (
        client_over(lambda _: httpx.Response(200, text=body)) as client,
        pytest.raises(UnexpectedAnswerError, match="not as this service does"),
    ):
        client.runs()
