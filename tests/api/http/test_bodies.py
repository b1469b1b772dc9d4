"""Bodies that may be long: what is answered to them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from api.http.middleware import MAX_VALUES
from tests.api.live import LiveApi

ABSENT = "0123456789ab-00000640"
JSON = "application/json"


def post(
    api: LiveApi, content: bytes, content_type: str | None = JSON, **params: Any
) -> httpx.Response:
    headers = {} if content_type is None else {"Content-Type": content_type}
    url = f"/checkpoints/{ABSENT}/reconstructions"
    return api.client.post(url, content=content, headers=headers, params=params)


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code", "told"),
    [
        (b"", None, 404, "checkpoint_not_found", "there is no"),
        (b"null", JSON, 404, "checkpoint_not_found", "there is no"),
        (b"{}", f"{JSON}; charset=utf-8", 404, "checkpoint_not_found", "there is no"),
        (b"{}", "application/merge-patch+json", 404, "checkpoint_not_found", "there is no"),
        (b"{}", "text/plain", 415, "unsupported_media_type", "the body is text/plain"),
        (b"{}", None, 415, "unsupported_media_type", "of no stated type"),
        (b'{"seed": ', JSON, 400, "invalid_json", "Expecting value at character 9"),
        (b'{"seed": 1}}', JSON, 400, "invalid_json", "Extra data at character 11"),
        (b'{"seed": "\xff"}', JSON, 400, "bad_request", "parsing the body"),
        (b"[" * 100_000, JSON, 400, "bad_request", "parsing the body"),
        (b"[]", JSON, 422, "invalid_request", "expected an object"),
        (b'{"seed": "\\ud800"}', JSON, 422, "invalid_request", "/seed: "),
        (b'{"images": {"splt": 1}}', JSON, 422, "invalid_request", "did you mean 'split'"),
    ],
)
def test_what_a_body_is_answered_with(
    api: LiveApi, content: bytes, content_type: str | None, status: int, code: str, told: str
) -> None:
    response = post(api, content, content_type)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert told in response.json()["detail"]
    assert response.headers["content-type"] == "application/problem+json"


def test_what_is_wrong_in_the_address_is_told_first(api: LiveApi) -> None:
    assert post(api, b"[]", format="gif").json()["errors"][0]["pointer"] == "format"
    bad = api.client.post("/checkpoints/none/reconstructions", json=[])
    assert (bad.status_code, bad.json()["code"]) == (404, "not_found")


def test_long_bodies_hold_long_texts_and_not_many_values(api: LiveApi) -> None:
    def indices(count: int) -> bytes:
        return json.dumps({"images": {"indices": [0] * count}}).encode()

    few = post(api, indices(MAX_VALUES))
    assert (few.status_code, few.json()["errors"][0]["pointer"]) == (422, "/images/indices")
    many = post(api, indices(MAX_VALUES + 1))
    assert (many.status_code, many.json()["code"]) == (422, "too_many_values")
    text = json.dumps({"images": {"uploaded": ["x" * (8 * api.settings.max_body_bytes)]}}).encode()
    assert post(api, text).json()["code"] == "checkpoint_not_found", "it is a request"
