"""A home has one supervisor, and its broker's socket a place that is short enough."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pmae.errors import StackError
from pmae.up.configuration import UpSettings
from pmae.up.home import MAX_SOCKET_PATH_BYTES, HomeLock, broker_socket


def settings(home: Path, **values: int) -> UpSettings:
    return UpSettings(home=home, **values)  # type: ignore[arg-type]


def test_a_second_supervisor_is_told_where_the_first_listens(tmp_path: Path) -> None:
    first = settings(tmp_path, api_port=18001, dashboard_port=18002)
    with HomeLock(first):
        for _ in range(2):
            with pytest.raises(StackError, match=r"18002.*18001.*PMAE_HOME"), HomeLock(first):
                pass
    with HomeLock(first):
        pass


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lock = HomeLock(settings(tmp_path / "file" / "home"))
    with pytest.raises(StackError, match=r"file/home.*PMAE_HOME"), lock:
        pass


def test_a_socket_lies_in_the_home_or_where_its_address_is_short(tmp_path: Path) -> None:
    near = settings(Path("/tmp/h"))  # noqa: S108 - only looked at
    assert broker_socket(near) == Path("/tmp/h/run/broker.sock")  # noqa: S108
    far = settings(tmp_path / ("x" * 100))
    socket = broker_socket(far)
    assert len(os.fsencode(socket)) <= MAX_SOCKET_PATH_BYTES
    assert socket == broker_socket(far)
    assert socket != broker_socket(settings(tmp_path / ("y" * 100)))
    assert socket.parent.stat().st_mode & 0o077 == 0
    socket.parent.chmod(0o755)
    with pytest.raises(StackError, match="private"):
        broker_socket(far)
    socket.parent.rmdir()


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"PMAE_API_PORT": "many"}, "PMAE_API_PORT"),
        ({"PMAE_DASHBOARD_PORT": "0"}, "PMAE_DASHBOARD_PORT"),
        ({"PMAE_API_PORT": "9000", "PMAE_DASHBOARD_PORT": "9000"}, "both 9000"),
    ],
)
def test_a_setting_that_is_not_valid_is_named(
    variables: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StackError, match=told):
        UpSettings.load()


def test_services_get_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = UpSettings(home=Path("var"), database_url="sqlite:///mine.sqlite3")
    environment = found.environment("redis://x")
    assert environment["PMAE_HOME"] == str(tmp_path / "var")
    assert environment["PMAE_DATABASE_URL"] == f"sqlite:///{tmp_path}/mine.sqlite3"
    assert environment["PMAE_BROKER_URL"] == "redis://x"
