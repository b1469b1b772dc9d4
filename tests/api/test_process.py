"""The API as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy.orm import Session

from api.db.session import make_engine, make_sessions
from api.db.tables import RunEventRow
from pmae.client import PmaeClient
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@contextmanager
def served(
    tmp_path: Path, *command: str, broker: str | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    environment = os.environ | {
        "PMAE_HOME": str(tmp_path / "home"),
        "PMAE_BROKER_URL": broker or f"redis+socket://{tmp_path}/no-broker.sock",
        "PMAE_API_PORT": str(port),
    }
    arguments = [sys.executable, "-W", "error", "-m", *command]
    if command[0] == "uvicorn":
        arguments += ["--port", str(port)]
    process = subprocess.Popen(arguments, env=environment, cwd=tmp_path)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, "the server ended"
        try:
            return httpx.get(f"{url}/api/v1/livez", trust_env=False).is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, "the server's start")
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=60)


@pytest.mark.stack
@pytest.mark.parametrize("command", [["api"], ["uvicorn", "--factory", "api.main:create_app"]])
def test_a_signal_ends_it_although_somebody_follows_a_run(
    tmp_path: Path, command: list[str]
) -> None:
    with (
        served(tmp_path, *command) as (process, url),
        PmaeClient(url) as client,
        ExitStack() as streams,
    ):
        run = client.submit(preset="quickstart")
        open_ones = []
        for path in (f"runs/{run.id}/events", "events"):
            stream = httpx.stream("GET", f"{url}/api/v1/{path}", trust_env=False, timeout=60)
            open_ones.append(streams.enter_context(stream).iter_bytes())
            assert next(open_ones[-1]).startswith(b"retry: ")
        process.send_signal(signal.SIGTERM)
        for one in open_ones:
            try:
                rest = b"".join(one)
            except httpx.TransportError as error:
                pytest.fail(f"the stream was torn instead of ended: {error}")
            assert rest.endswith(b"\n\n") or not rest, "it ends after a whole message"
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)


@pytest.mark.stack
def test_who_reads_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with served(tmp_path, "api") as (process, url), PmaeClient(url) as client:
        run = client.submit(preset="quickstart")
        engine = make_engine(f"sqlite:///{tmp_path}/home/pmae.sqlite3")
        with make_sessions(engine).begin() as session:
            add_long_events(session, run.number)
        engine.dispose()
        with httpx.stream(
            "GET", f"{url}/api/v1/runs/{run.id}/events", trust_env=False, timeout=60
        ) as response:
            chunks = response.iter_raw()
            next(chunks)  # and no more: what follows fills the buffers of both sides
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) in (0, -signal.SIGTERM)


def add_long_events(session: Session, run_number: int) -> None:
    """More than a connection holds: 30 MB."""
    for _ in range(300):
        session.add(
            RunEventRow(
                run_number=run_number,
                at=1e9,
                type="stage",
                actor="w",
                message="x" * 100_000,
                data={},
            )
        )


@pytest.mark.stack
def test_json_logs_name_the_request_and_hide_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMAE_LOG_FORMAT", "json")
    with served(tmp_path, "api", broker="redis://:s3cret@127.0.0.1:1/0") as (process, url):
        address = f"{url}/api/v1"
        given = {"X-Request-ID": "from-a-proxy.1"}
        body = {"dataset": {"name": "digits"}}
        made = httpx.post(f"{address}/runs", json=body, headers=given, trust_env=False)
        run_id = made.json()["id"]
        assert made.headers["X-Request-ID"] == "from-a-proxy.1"
        refused = httpx.get(f"{address}/runs/none?secret=1", trust_env=False)
        odd = {"X-Request-ID": "not\tan id"}
        named = httpx.get(f"{address}/runs/{run_id}", headers=odd, trust_env=False)
        assert httpx.get(f"{address}/readyz", trust_env=False).status_code == 503
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    output = capfd.readouterr().err
    assert "s3cret" not in output
    assert "secret=1" not in output
    lines = [json.loads(line) for line in output.splitlines()]
    assert any("broker" in line["message"] for line in lines)
    requests = [line for line in lines if line["logger"] == "api.requests"]
    post, unknown_parameter, get = requests
    assert (post["method"], post["path"], post["status"]) == ("POST", "/api/v1/runs", 202)
    assert post["request_id"] == "from-a-proxy.1"
    assert post["duration_ms"] > 0
    assert (unknown_parameter["status"], unknown_parameter["run_id"]) == (422, "none")
    assert unknown_parameter["request_id"] == refused.headers["X-Request-ID"]
    assert get["run_id"] == run_id
    assert get["request_id"] == named.headers["X-Request-ID"] != "not\tan id"


@pytest.mark.stack
def test_state_survives_a_restart(tmp_path: Path) -> None:
    with served(tmp_path, "api") as (_, url), PmaeClient(url) as client:
        run = client.submit(preset="quickstart")
    with served(tmp_path, "api") as (_, url), PmaeClient(url) as client:
        assert client.run(run.id).spec == run.spec


@pytest.mark.stack
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_body_that_is_too_long_is_not_held_in_memory(tmp_path: Path) -> None:
    with served(tmp_path, "api") as (process, url):
        headers = {"content-type": "application/json"}
        address = f"{url}/api/v1/runs"
        httpx.post(address, content=b" " * 1_000_000, headers=headers, trust_env=False)
        before = peak_memory_bytes(process.pid)
        pieces = (b"x" * 1_000_000 for _ in range(50))
        for content in (b"x" * 50_000_000, pieces):
            refused = httpx.post(address, content=content, headers=headers, trust_env=False)
            assert refused.status_code == 413
        assert peak_memory_bytes(process.pid) - before < 10_000_000


def peak_memory_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def test_importing_the_api_loads_neither_torch_nor_the_worker() -> None:
    code = (
        "import sys; import api.main; api.main.create_app();"
        "bad = {'torch', 'torchvision', 'timm', 'pytorch_lightning', 'sklearn', 'worker',"
        " 'celery.worker', 'streamlit'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
