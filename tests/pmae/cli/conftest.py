"""The real API for commands to speak to. What it asks of SQL is tested with the API."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from api.settings import ApiSettings
from pmae.cli import main
from tests.api.live import LiveApi, live_api
from tests.support.databases import Databases

TERMINAL = {"TTY_COMPATIBLE": "1", "TERM": "dumb", "LINES": "25"}
"""Lets a command print as it does on a terminal, but without styles."""
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def api_settings(databases: Databases, tmp_path: Path) -> ApiSettings:
    """No broker and no worker: what runs do is put into the database by the tests."""
    return ApiSettings(
        home=tmp_path / "home",
        database_url=databases.sqlite(tmp_path / "test.sqlite3"),
        require_keys=False,
        broker_url=f"redis+socket://{tmp_path}/no-broker.sock",
        broker_timeout_seconds=0.1,
    )


@pytest.fixture
def api(api_settings: ApiSettings) -> Iterator[LiveApi]:
    with live_api(api_settings) as served:
        yield served


@pytest.fixture
def pmae(api: LiveApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in an empty folder, against that API.

    In this process: to start one for each command would take most of the tests' time.
    """
    folder = tmp_path / "here"
    folder.mkdir()

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {"PMAE_API_URL": api.url, "COLUMNS": "200", "NO_COLOR": "1"} | environment
        stdout, stderr = io.StringIO(), io.StringIO()
        with monkeypatch.context() as here, redirect_stdout(stdout), redirect_stderr(stderr):
            here.chdir(folder)
            here.setattr("sys.argv", ["pmae", *arguments])
            here.setattr("sys.stdin", io.StringIO())
            for name, value in settings.items():
                here.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        assert isinstance(ended.value.code, int)
        return subprocess.CompletedProcess(
            arguments, ended.value.code, stdout.getvalue(), stderr.getvalue()
        )

    return run
