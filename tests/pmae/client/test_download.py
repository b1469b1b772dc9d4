from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pmae.client import ApiError, DownloadError, PmaeClient, UnexpectedAnswerError

CHECKPOINT = "abc-00000640"
NAME = "model.safetensors"
CONTENT = bytes(range(256)) * 20_000


@dataclass
class FileServer:
    """One checkpoint with one file over real HTTP, with the faults that a test asks for."""

    content: bytes = CONTENT
    promised: bytes = CONTENT
    break_off_after: int | None = None
    ignore_ranges: bool = False
    wrong_start: bool = False
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0

    def checkpoint(self) -> bytes:
        facts = {
            "sha256": hashlib.sha256(self.promised).hexdigest(),
            "size": len(self.promised),
        }
        return json.dumps(
            {
                "id": CHECKPOINT,
                "run_id": "abc",
                "name": "step-00000640",
                "kind": "kept",
                "step": 640,
                "epoch": 1.0,
                "created_at": "2026-01-01T00:00:00Z",
                "metrics": {},
                "pinned": False,
                "files": {
                    NAME: facts,
                    "empty": {"sha256": hashlib.sha256().hexdigest(), "size": 0},
                },
            }
        ).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: FileServer

    def do_GET(self) -> None:
        base = f"/api/v1/checkpoints/{CHECKPOINT}"
        if self.path == base:
            self._send(200, self.files.checkpoint(), {"Content-Type": "application/json"})
        elif self.path == f"{base}/files/{NAME}":
            self._send_file()
        elif self.path == f"{base}/files/empty":
            self._send(200, b"", {})
        else:
            self._send(404, b"", {})

    def _send_file(self) -> None:
        files = self.files
        files.asked.append({name.lower(): value for name, value in self.headers.items()})
        etag = f'"{hashlib.sha256(files.content).hexdigest()}"'
        start = self._range_start(etag)
        body = files.content[start:]
        headers = {"ETag": etag}
        if start:
            told = start + 1 if files.wrong_start else start
            total = len(files.content)
            headers["Content-Range"] = f"bytes {told}-{total - 1}/{total}"
        self._send(206 if start else 200, body, headers)

    def _range_start(self, etag: str) -> int:
        wanted = self.headers.get("Range", "")
        if self.files.ignore_ranges or not wanted or self.headers.get("If-Range") != etag:
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.files.break_off_after
        if "ETag" in headers and cut is not None:
            body, self.files.break_off_after = body[:cut], None
            self.close_connection = True
        if "ETag" in headers:
            self.files.sent += len(body)  # first: the client may be done before this goes on
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def files() -> Iterator[FileServer]:
    files = FileServer()
    handler = type("Handler", (_Handler,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    files.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def client(files: FileServer) -> Iterator[PmaeClient]:
    with PmaeClient(files.url) as client:
        yield client


def part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def test_a_file_is_fetched_verified_and_told_of(
    client: PmaeClient, files: FileServer, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    path = client.download(
        CHECKPOINT, NAME, tmp_path, progress=lambda done, total: seen.append((done, total))
    )
    assert path == tmp_path / NAME
    assert path.read_bytes() == CONTENT
    assert not part_of(path).exists()
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert "range" not in files.asked[0]
    assert files.asked[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("there", [1, 700, 3_000_000, len(CONTENT) - 1])
def test_a_download_that_broke_off_is_gone_on_with(
    client: PmaeClient, files: FileServer, tmp_path: Path, there: int
) -> None:
    target = tmp_path / "weights"
    files.break_off_after = there
    with pytest.raises(DownloadError, match=f"after {there} of .* call again to go on"):
        client.download(CHECKPOINT, NAME, target)
    assert not target.exists()
    assert part_of(target).read_bytes() == CONTENT[:there], "every byte that came"
    files.sent = 0
    assert client.download(CHECKPOINT, NAME, target).read_bytes() == CONTENT
    assert files.sent == len(CONTENT) - there
    assert files.asked[-1]["range"] == f"bytes={there}-"
    assert files.asked[-1]["if-range"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'


def test_a_download_that_breaks_off_again_and_again_gets_there(
    client: PmaeClient, files: FileServer, tmp_path: Path
) -> None:
    target, piece = tmp_path / "weights", 1_300_001
    for tries in range(1, 4):
        files.break_off_after = piece
        with pytest.raises(DownloadError, match="call again to go on"):
            client.download(CHECKPOINT, NAME, target)
        assert part_of(target).stat().st_size == tries * piece
    assert client.download(CHECKPOINT, NAME, target).read_bytes() == CONTENT
    assert files.sent == len(CONTENT), "no byte was sent twice"


def test_a_part_of_another_file_is_thrown_away(
    client: PmaeClient, files: FileServer, tmp_path: Path
) -> None:
    target = tmp_path / NAME
    part_of(target).write_bytes(b"x" * 5000)
    assert client.download(CHECKPOINT, NAME, target).read_bytes() == CONTENT
    assert [request.get("range") for request in files.asked] == ["bytes=5000-", None]


@pytest.mark.parametrize("there", [CONTENT, CONTENT + b"more"], ids=["whole", "too long"])
def test_a_part_that_has_everything_or_more(
    client: PmaeClient, files: FileServer, tmp_path: Path, there: bytes
) -> None:
    target = tmp_path / NAME
    part_of(target).write_bytes(there)
    assert client.download(CHECKPOINT, NAME, target).read_bytes() == CONTENT
    assert len(files.asked) == (0 if there == CONTENT else 1)


def test_a_server_without_ranges_sends_all_again(
    client: PmaeClient, files: FileServer, tmp_path: Path
) -> None:
    target = tmp_path / NAME
    part_of(target).write_bytes(CONTENT[:777])
    files.ignore_ranges = True
    assert client.download(CHECKPOINT, NAME, target).read_bytes() == CONTENT


def test_other_bytes_than_promised_never_appear(
    client: PmaeClient, files: FileServer, tmp_path: Path
) -> None:
    files.content = b"?" + CONTENT[1:]
    with pytest.raises(DownloadError, match="SHA-256"):
        client.download(CHECKPOINT, NAME, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_promised_are_refused(
    client: PmaeClient, files: FileServer, tmp_path: Path
) -> None:
    files.promised = CONTENT[:1000]
    with pytest.raises(UnexpectedAnswerError, match="more than the 1000 bytes"):
        client.download(CHECKPOINT, NAME, tmp_path)
    assert not (tmp_path / NAME).exists()


def test_a_piece_from_elsewhere_is_refused(
    client: PmaeClient, files: FileServer, tmp_path: Path
) -> None:
    part_of(tmp_path / NAME).write_bytes(CONTENT[:100])
    files.wrong_start = True
    with pytest.raises(UnexpectedAnswerError, match="Content-Range"):
        client.download(CHECKPOINT, NAME, tmp_path)


def test_an_empty_file_is_a_file(client: PmaeClient, tmp_path: Path) -> None:
    assert client.download(CHECKPOINT, "empty", tmp_path).read_bytes() == b""


def test_a_name_that_the_checkpoint_does_not_have(client: PmaeClient, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"expected one of empty, {NAME}"):
        client.download(CHECKPOINT, "../../etc/passwd", tmp_path)


def test_a_checkpoint_that_is_not_there(client: PmaeClient, tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="404"):
        client.download("abc-00000001", NAME, tmp_path)


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with PmaeClient(files.url) as client:
        assert client.checkpoint(CHECKPOINT).step == 640
