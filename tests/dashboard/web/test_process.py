"""The process: what it needs of its surroundings, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.api.live import LiveApi
from tests.dashboard.server import STOP_SECONDS, served_dashboard


def test_it_writes_nothing_and_needs_no_home(live: LiveApi, tmp_path: Path) -> None:
    """As in a container: nothing of the code in the working directory, nothing to write to."""
    settings = {
        "PMAE_API_URL": live.url,
        "HOME": str(tmp_path / "nowhere"),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with served_dashboard(tmp_path, settings) as served:
        answer = httpx.get(served.url, trust_env=False)
        assert (answer.status_code, "streamlit" in answer.text.lower()) == (200, True)
        config = httpx.get(f"{served.url}/_stcore/host-config", trust_env=False)
        assert config.status_code == 200
    assert {path.name for path in tmp_path.iterdir()} == {"dashboard.log"}


def test_it_ends_although_pages_are_open(live: LiveApi, tmp_path: Path) -> None:
    with (
        served_dashboard(tmp_path, {"PMAE_API_URL": live.url}) as served,
        connect(
            f"ws://127.0.0.1:{served.port}/_stcore/stream",
            subprotocols=[Subprotocol("streamlit")],
            proxy=None,
        ) as stream,
    ):
        served.process.terminate()
        served.process.wait(timeout=STOP_SECONDS)
        with pytest.raises(ConnectionClosed):
            stream.recv(timeout=STOP_SECONDS)


@pytest.mark.parametrize(
    ("setting", "value"), [("PMAE_DASHBOARD_PORT", "70000"), ("PMAE_API_PORT", "x")]
)
def test_a_wrong_setting_is_told_in_a_sentence(setting: str, value: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "dashboard"],
        env={**os.environ, setting: value},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"dashboard: {setting}: ")
    assert value in ended.stderr
    assert "Traceback" not in ended.stderr
