"""Checkpoint files over HTTP: ranges, ETags, conditional requests, and files that vanish."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete

from api.db.tables import CheckpointRow
from api.http.download import ByteRange, parse_range
from api.http.errors import RangeError
from pmae.client import PmaeClient
from pmae.schema import Checkpoint, CheckpointPage
from tests.api.live import LiveApi, problem

WEIGHTS = os.urandom(700_001)
FILES = {"model.safetensors": WEIGHTS, "config.json": b'{"format": 1}', "empty.bin": b""}


@pytest.fixture
def checkpoint(api: LiveApi) -> str:
    row = api.add_run()
    api.add_checkpoint(row, FILES)
    return f"{row.id}-00000640"


def fetch(
    api: LiveApi, checkpoint: str, name: str = "model.safetensors", **headers: str
) -> httpx.Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return api.client.get(f"/checkpoints/{checkpoint}/files/{name}", headers=named)


ETAG = f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'


def test_a_checkpoint_lists_its_files(api: LiveApi, checkpoint: str) -> None:
    view = Checkpoint.model_validate_json(api.client.get(f"/checkpoints/{checkpoint}").content)
    assert view.id == checkpoint
    assert view.files["model.safetensors"].size == len(WEIGHTS)


def test_pages_of_checkpoints_join_while_they_come_and_go(api: LiveApi) -> None:
    run = api.add_run()
    for step in (100, 300, 200, 400):
        api.add_checkpoint(run, {"model.safetensors": b"w"}, step=step)
    api.add_checkpoint(run, {"model.safetensors": b"w"}, step=350, kind="latest")
    path = f"/runs/{run.id}/checkpoints"

    def page(**params: str | int) -> CheckpointPage:
        response = api.client.get(path, params=params)
        assert response.status_code == 200, response.text
        return CheckpointPage.model_validate_json(response.content)

    first = page(limit=2)
    assert [one.step for one in first.items] == [400, 350]
    api.add_checkpoint(run, {"model.safetensors": b"w"}, step=500)
    with api.sessions.begin() as session:
        session.execute(delete(CheckpointRow).where(CheckpointRow.id == f"{run.id}-00000350"))
    second = page(limit=3, cursor=first.next_cursor or "")
    assert [one.step for one in second.items] == [300, 200, 100]
    assert second.next_cursor is None
    with PmaeClient(api.url) as client:
        steps = [one.step for one in client.checkpoints(run.id, page_size=2)]
    assert steps == [500, 400, 300, 200, 100]


def test_checkpoints_of_one_kind(api: LiveApi) -> None:
    run = api.add_run()
    api.add_checkpoint(run, {"model.safetensors": b"w"}, step=300, kind="latest")
    for step in (100, 200):
        api.add_checkpoint(run, {"model.safetensors": b"w"}, step=step)
    with PmaeClient(api.url) as client:
        assert [one.step for one in client.checkpoints(run.id)] == [300, 200, 100]
        assert [one.step for one in client.checkpoints(run.id, kind="latest")] == [300]
        kept = client.checkpoints(run.id, kind="kept", page_size=1)
        assert [one.step for one in kept] == [200, 100]
    path = f"/runs/{run.id}/checkpoints"
    cursor = api.client.get(path, params={"limit": 1}).json()["next_cursor"]
    of_others = api.client.get(path, params={"cursor": cursor, "kind": "kept"})
    assert problem(of_others, 422).errors[0].pointer == "cursor"


def test_a_whole_file_with_its_digest(api: LiveApi, checkpoint: str) -> None:
    response = fetch(api, checkpoint)
    assert response.status_code == 200
    assert response.content == WEIGHTS
    assert response.headers["etag"] == ETAG
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-length"] == str(len(WEIGHTS))
    assert response.headers["content-disposition"] == (
        f'attachment; filename="{checkpoint[:8]}-step-00000640-model.safetensors"'
    )


def test_head_tells_the_same_without_the_bytes(api: LiveApi, checkpoint: str) -> None:
    url = f"/checkpoints/{checkpoint}/files/model.safetensors"
    response = api.client.head(url)
    assert response.status_code == 200
    assert response.headers["content-length"] == str(len(WEIGHTS))
    assert response.headers["etag"] == ETAG
    assert response.content == b""
    part = api.client.head(url, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


def test_every_file_and_the_manifest_can_be_fetched(api: LiveApi, checkpoint: str) -> None:
    assert fetch(api, checkpoint, "config.json").headers["content-type"] == "application/json"
    assert fetch(api, checkpoint, "empty.bin").content == b""
    manifest = fetch(api, checkpoint, "manifest.json")
    assert manifest.json()["name"] == "step-00000640"
    assert manifest.headers["etag"] == f'"{hashlib.sha256(manifest.content).hexdigest()}"'


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=500000-", 500_000, 700_001),
        ("bytes=10-99", 10, 100),
        ("bytes=-5", 699_996, 700_001),
        ("bytes=-9999999", 0, 700_001),
        ("bytes=700000-9999999", 700_000, 700_001),
        ("Bytes=1-2", 1, 3),
    ],
)
def test_a_range(asked: str, start: int, stop: int) -> None:
    assert parse_range(asked, len(WEIGHTS)) == ByteRange(start, stop)


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "lines=0-1", "bytes=5-2", "bytes=-", "bytes=a-b", "bytes", ""]
)
def test_what_is_no_single_range_is_ignored(asked: str) -> None:
    assert parse_range(asked, 100) is None


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_outside_is_refused(asked: str) -> None:
    with pytest.raises(RangeError) as refused:
        parse_range(asked, 100)
    assert refused.value.headers == {"Content-Range": "bytes */100"}


def test_ranges_over_http(api: LiveApi, checkpoint: str) -> None:
    part = fetch(api, checkpoint, Range="bytes=262000-600000")
    assert part.status_code == 206
    assert part.content == WEIGHTS[262_000:600_001]
    assert part.headers["content-range"] == f"bytes 262000-600000/{len(WEIGHTS)}"
    assert part.headers["etag"] == ETAG
    outside = fetch(api, checkpoint, Range="bytes=700001-")
    assert (outside.status_code, outside.json()["code"]) == (416, "range_not_satisfiable")
    assert outside.headers["content-range"] == f"bytes */{len(WEIGHTS)}"
    assert fetch(api, checkpoint, "empty.bin", Range="bytes=0-").status_code == 416


def test_if_range_sends_all_when_the_file_is_another(api: LiveApi, checkpoint: str) -> None:
    same = fetch(api, checkpoint, Range="bytes=5-", If_Range=ETAG)
    assert (same.status_code, same.content) == (206, WEIGHTS[5:])
    for other in ('"0"', f"W/{ETAG}", "Tue, 24 Nov 2026 00:00:00 GMT"):
        response = fetch(api, checkpoint, Range="bytes=5-", If_Range=other)
        assert (response.status_code, response.content) == (200, WEIGHTS)


def test_if_none_match_spares_the_bytes(api: LiveApi, checkpoint: str) -> None:
    for tags in (ETAG, f'"x", {ETAG}', f"W/{ETAG}", "*"):
        response = fetch(api, checkpoint, If_None_Match=tags)
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == ETAG
    assert fetch(api, checkpoint, If_None_Match='"x"').status_code == 200


def test_the_client_resumes_a_download(api: LiveApi, checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.part").write_bytes(WEIGHTS[:123_456])
    with PmaeClient(api.url) as client:
        path = client.download(checkpoint, "model.safetensors", tmp_path)
    assert path.read_bytes() == WEIGHTS


STRANGE_NAMES = (
    "weights.bin",
    "..%2fconfig.json",
    "%2e%2e",
    "....",
    "config.json%00",
    "%2fetc%2fpasswd",
)


def test_only_the_files_of_the_manifest_are_served(
    api: LiveApi, checkpoint: str, subtests: pytest.Subtests
) -> None:
    for name in STRANGE_NAMES:
        with subtests.test(name=name):
            response = fetch(api, checkpoint, name)
            assert response.status_code == 404
            assert response.headers["content-type"] == "application/problem+json"
            if name in ("weights.bin", "....", "config.json%00"):
                assert response.json()["errors"][0]["pointer"] == "file_name"
                assert "model.safetensors" in response.json()["detail"]


def test_unknown_checkpoints(api: LiveApi, checkpoint: str) -> None:
    other = checkpoint[:-1] + "1"
    response = fetch(api, other)
    assert (response.status_code, response.json()["code"]) == (404, "checkpoint_not_found")
    assert api.client.get("/checkpoints/..%2f..").status_code == 404
    response = api.client.get("/checkpoints/nonsense")
    assert response.json()["errors"][0]["pointer"] == "checkpoint_id"


def test_a_latest_checkpoint_that_was_replaced(api: LiveApi) -> None:
    row = api.add_run(state="running")
    folder = api.add_checkpoint(row, FILES, kind="latest")
    checkpoint = f"{row.id}-00000640"
    assert fetch(api, checkpoint).content == WEIGHTS
    shutil.rmtree(folder)
    for name in ("model.safetensors", "manifest.json"):
        response = fetch(api, checkpoint, name)
        assert (response.status_code, response.json()["code"]) == (404, "checkpoint_replaced")
        assert f"/runs/{row.id}/checkpoints" in response.json()["detail"]
    with api.sessions.begin() as session:
        session.execute(delete(CheckpointRow))
    assert fetch(api, checkpoint).json()["code"] == "checkpoint_not_found"


def test_a_file_that_is_removed_while_it_is_sent_arrives_whole(api: LiveApi) -> None:
    row = api.add_run()
    weights = os.urandom(20_000_000)  # more than the sockets' buffers hold
    folder = api.add_checkpoint(row, {"model.safetensors": weights}, kind="latest")
    url = f"/checkpoints/{row.id}-00000640/files/model.safetensors"
    with api.client.stream("GET", url) as response:
        shutil.rmtree(folder)
        assert response.read() == weights


def test_a_file_of_another_size_is_not_served(api: LiveApi) -> None:
    row = api.add_run()
    folder = api.add_checkpoint(row, FILES)
    (folder / "config.json").write_bytes(b"{}")
    response = fetch(api, f"{row.id}-00000640", "config.json")
    assert (response.status_code, response.json()["code"]) == (500, "artifact_damaged")
    assert "expected 13, as recorded" in response.json()["detail"]
