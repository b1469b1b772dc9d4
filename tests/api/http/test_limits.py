"""Which requests are answered at all, and how much of them is read."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from api.http.middleware import BodyLimitMiddleware
from api.http.validation import MAX_FIELDS
from api.settings import ApiSettings
from tests.api.live import DIGITS, LiveApi

MEGABYTE = 1_000_000


@pytest.fixture
def api_settings(api_settings: ApiSettings) -> ApiSettings:
    return api_settings.model_copy(
        update={"allowed_hosts": ("lab.example",), "allowed_origins": ("https://lab.example",)}
    )


def chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * MEGABYTE


def test_a_body_of_50_megabytes_is_refused(api: LiveApi) -> None:
    for content in (b"x" * (50 * MEGABYTE), chunks(50)):
        response = api.client.post(
            "/runs", content=content, headers={"content-type": "application/json"}
        )
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
        assert "1,048,576 bytes" in response.json()["detail"]
        assert response.headers["content-type"] == "application/problem+json"
    assert api.count_runs() == 0


def test_the_limit_is_exact(api: LiveApi) -> None:
    spec = b'{"dataset": {"name": "digits"}}'
    padded = spec.ljust(api.settings.max_body_bytes)
    headers = {"content-type": "application/json"}
    assert api.client.post("/runs", content=padded, headers=headers).status_code == 202
    assert api.client.post("/runs", content=padded + b" ", headers=headers).status_code == 413
    pieces = (padded[i : i + 100_000] for i in range(0, len(padded), 100_000))
    assert api.client.post("/runs", content=pieces, headers=headers).status_code == 202
    assert api.count_runs() == 2


def test_a_client_that_asks_first_sends_nothing_that_is_not_wanted(api: LiveApi) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = (
            "POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {50 * MEGABYTE}\r\nExpect: 100-continue\r\n\r\n"
        )
        connection.sendall(head.encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 413


def test_an_endless_body_is_cut_off(api: LiveApi) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            b"POST /api/v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"f4240\r\n" + b"x" * MEGABYTE + b"\r\n"

        def send_on() -> None:
            for _ in range(500):
                connection.sendall(chunk)

        with pytest.raises(OSError, match=r"reset|pipe"):
            send_on()


def test_a_body_in_many_pieces_takes_no_more_memory_than_in_one() -> None:
    passed_on: list[Message] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        passed_on.append(await receive())

    pieces = iter([{"type": "http.request", "body": b"x", "more_body": True}] * 1_000)

    async def receive() -> Message:
        return next(pieces, {"type": "http.request", "body": b"y", "more_body": False})

    async def send(_message: Message) -> None:
        raise AssertionError("nothing is answered")

    limited = BodyLimitMiddleware(app, max_body_bytes=2_000, larger={})
    scope = {"type": "http", "path": "/", "headers": []}
    asyncio.run(limited(scope, receive, send))
    assert passed_on == [{"type": "http.request", "body": b"x" * 1_000 + b"y"}]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/runs/0123456789ab"),
        ("POST", "/checkpoints/0123456789ab-00000001/reconstructions"),
    ],
)
def test_a_body_of_very_many_values_is_not_looked_at(api: LiveApi, method: str, path: str) -> None:
    def refused(count: int) -> dict[str, Any]:
        body = {f"unknown{index}": index for index in range(count)}
        answer = api.client.request(method, path, json=body)
        assert answer.status_code == 422
        problem: dict[str, Any] = answer.json()
        return problem

    assert refused(40_000)["code"] == "too_many_values"
    problem = refused(20_000)
    assert problem["code"] == "invalid_request"
    assert len(problem["errors"]) == MAX_FIELDS


def test_only_known_hosts_are_answered(api: LiveApi, subtests: pytest.Subtests) -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:8000", "lab.example"):
        with subtests.test(host=host):
            assert api.client.get("/livez", headers={"Host": host}).status_code == 200
    for host in (
        "evil.example",
        "lab.example.evil.example",
        "evil.example@localhost",
        "localhost/x",
        "localhost:x",
        "",
    ):
        with subtests.test(host=host):
            response = api.client.get("/livez", headers={"Host": host})
            assert (response.status_code, response.json()["code"]) == (400, "host_not_allowed")


def test_pages_of_other_sites_cannot_write(api: LiveApi) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://lab.example"):
        response = api.client.post("/runs", json=DIGITS, headers={"Origin": origin})
        assert (response.status_code, response.json()["code"]) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in response.headers
    assert api.count_runs() == 0
    for origin in (api.url, "https://lab.example"):
        response = api.client.post("/runs", json=DIGITS, headers={"Origin": origin})
        assert response.status_code == 202
    assert api.client.get("/runs", headers={"Origin": "https://evil.example"}).status_code == 200


def test_names_in_the_environment_stand_between_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMAE_ALLOWED_HOSTS", "api, Lab.example ,")
    assert ApiSettings().allowed_hosts == ("api", "lab.example")
    monkeypatch.setenv("PMAE_ALLOWED_HOSTS", "")
    assert ApiSettings().allowed_hosts == ()
