"""Reading logs in pieces, by byte, across leases and characters."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from api.runs.log import read_log
from pmae.runs.layout import RunDir
from pmae.schema import LogChunk
from tests.api.live import LiveApi

TEXT = "épöch 1 — loss 0.5 🙂\n" * 3


def write_logs(run_dir: RunDir, *logs: bytes) -> None:
    for number, log in enumerate(logs, 1):
        lease = run_dir.lease(number)
        lease.path.mkdir(parents=True, exist_ok=True)
        lease.log.write_bytes(log)


@pytest.mark.parametrize("limit", [4, 5, 7, 16, 1000])
@pytest.mark.parametrize("cut", [0, 1, 13, 40])
def test_pieces_join_to_the_whole(tmp_path: Path, limit: int, cut: int) -> None:
    data = TEXT.encode()
    while cut and data[cut] & 0xC0 == 0x80:
        cut += 1
    run_dir = RunDir(tmp_path)
    write_logs(run_dir, data[:cut], b"", data[cut:])
    text, offset = "", 0
    while True:
        chunk = read_log(run_dir, offset=offset, limit=limit)
        assert chunk.offset == offset
        assert chunk.size == len(data)
        text += chunk.text
        if chunk.next_offset == offset:
            break
        offset = chunk.next_offset
    assert text == TEXT
    assert offset == len(data)


def test_a_reader_that_follows_over_several_leases_gets_one_stream(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    steps = [
        (1, b"lease 1 begins\n"),
        (1, b"the supervisor is gone: stopping at once\n"),
        (2, b""),
        (2, b"lease 2 begins\n"),
        (3, b"lease 3 begins\n"),
        (3, b"the last line\n"),
    ]
    whole, text, offset = b"", "", 0
    for number, data in steps:
        lease = run_dir.lease(number)
        lease.path.mkdir(exist_ok=True)
        with lease.log.open("ab") as log:
            log.write(data)
        whole += data
        chunk = read_log(run_dir, offset=offset, limit=1000)
        assert chunk.offset == offset == len(whole) - len(data)
        assert chunk.next_offset == chunk.size == len(whole)
        text, offset = text + chunk.text, chunk.next_offset
    assert text.encode() == whole
    assert read_log(run_dir, offset=0, limit=1000).text == text, "and from the first line again"


def test_a_torn_last_character_waits_for_its_rest(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write_logs(run_dir, "ab🙂".encode()[:-2])
    chunk = read_log(run_dir, offset=0, limit=100)
    assert (chunk.text, chunk.next_offset) == ("ab", 2)
    write_logs(run_dir, "ab🙂".encode())
    assert read_log(run_dir, offset=2, limit=100).text == "🙂"


def test_bytes_that_are_no_text_do_not_stop_the_reader(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write_logs(run_dir, b"\xff\xfeok\x80")
    assert read_log(run_dir, offset=0, limit=100).text == "\ufffd\ufffdok\ufffd"
    write_logs(run_dir, b"\xf0\x9f")
    assert read_log(run_dir, offset=0, limit=100).next_offset == 2


@pytest.mark.parametrize("tail", range(1, 12))
def test_a_negative_offset_reads_the_end(tmp_path: Path, tail: int) -> None:
    run_dir = RunDir(tmp_path)
    write_logs(run_dir, b"first\n", "x🙂y🙂\n".encode())
    whole = ("first\n" + "x🙂y🙂\n").encode()
    chunk = read_log(run_dir, offset=-tail, limit=100)
    assert "\ufffd" not in chunk.text
    assert chunk.text.encode() == whole[chunk.offset :]
    assert len(whole) - tail <= chunk.offset <= len(whole) - tail + 3
    assert read_log(run_dir, offset=-1000, limit=100).offset == 0


def test_an_offset_behind_the_end_is_the_end(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    write_logs(run_dir, b"abc")
    assert read_log(run_dir, offset=99, limit=10) == LogChunk(
        text="", offset=3, next_offset=3, size=3
    )


def test_over_http(api: LiveApi) -> None:
    run_id = api.submit()
    empty = LogChunk.model_validate_json(api.client.get(f"/runs/{run_id}/log").content)
    assert empty == LogChunk(text="", offset=0, next_offset=0, size=0)
    write_logs(api.run_dir(run_id), TEXT.encode())
    params = {"offset": 2, "limit": 20}
    piece = LogChunk.model_validate_json(
        api.client.get(f"/runs/{run_id}/log", params=params).content
    )
    assert piece.text.encode() == TEXT.encode()[2 : piece.next_offset]
    assert api.client.get(f"/runs/{run_id}/log", params={"limit": 3}).status_code == 422


def test_a_log_that_is_deleted_while_it_is_read_is_no_fault(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "run")
    ended = Event()

    def make_and_delete() -> None:
        while not ended.is_set():
            for number in (1, 2, 3):
                lease = run_dir.lease(number)
                lease.path.mkdir(parents=True)
                lease.log.write_text("some text\n")
            shutil.rmtree(run_dir.path)

    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(make_and_delete)
        try:
            chunks = [read_log(run_dir, offset=0, limit=100) for _ in range(3_000)]
        finally:
            ended.set()
        deleting.result()
    assert any(chunk.text for chunk in chunks)
