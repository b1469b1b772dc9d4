"""Secrets from files, wherever they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.settings import ApiSettings
from pmae.client.client import connect
from pmae.errors import SettingsError
from pmae.runtime.secret_files import SECRETS, read_secret, without_secrets
from pmae.settings import load_settings
from pmae.up.configuration import UpSettings


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("s3cret", "s3cret"),
        ("s3cret\n", "s3cret"),
        ("s3cret\r\n", "s3cret"),
        (" s3 cret \n\n", " s3 cret \n"),
        ("schlüssel\n", "schlüssel"),
    ],
)
def test_one_newline_ends_a_file(tmp_path: Path, content: str, value: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content.encode())
    assert read_secret("PMAE_SECRET_KEY", {"PMAE_SECRET_KEY_FILE": str(file)}) == value


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"geheim\xff", "is not UTF-8 text"),
    ],
)
def test_a_file_that_holds_no_secret(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        read_secret("PMAE_BROKER_URL", {"PMAE_BROKER_URL_FILE": str(file)})
    assert str(refused.value).startswith(f"PMAE_BROKER_URL_FILE: {file}: {why}; ")
    assert "geheim" not in str(refused.value)
    with pytest.raises(SettingsError, match="Is a directory"):
        read_secret("PMAE_BROKER_URL", {"PMAE_BROKER_URL_FILE": str(tmp_path)})


@pytest.mark.parametrize("variable", sorted(SECRETS))
def test_a_value_and_a_file_exclude_each_other(variable: str, tmp_path: Path) -> None:
    given = {variable: "geheim", f"{variable}_FILE": str(tmp_path / "secret")}
    with pytest.raises(SettingsError) as refused:
        read_secret(variable, given)
    assert f"{variable} and {variable}_FILE" in str(refused.value)
    assert "geheim" not in str(refused.value)
    assert read_secret(variable, given | {f"{variable}_FILE": ""}) == "geheim"
    assert read_secret(variable, {variable: "", f"{variable}_FILE": ""}) is None


def test_the_service_reads_every_secret_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "database_url": "postgresql+psycopg://u:p@h/x",
        "broker_url": "redis://:pw@h/0",
        "secret_key": "s" * 32,
    }
    for name, value in values.items():
        (tmp_path / name).write_text(f"{value}\n")
        monkeypatch.setenv(f"PMAE_{name.upper()}_FILE", str(tmp_path / name))
    settings = load_settings(ApiSettings)
    assert settings.sqlalchemy_url == values["database_url"]
    assert settings.broker_url == values["broker_url"]
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == values["secret_key"]
    (tmp_path / "secret_key").write_text("geheim\n")
    with pytest.raises(SettingsError, match="PMAE_SECRET_KEY") as refused:
        load_settings(ApiSettings)
    assert "geheim" not in str(refused.value)


def test_the_client_reads_its_key_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("pmae_key\n")
    monkeypatch.delenv("PMAE_API_KEY", raising=False)
    monkeypatch.setenv("PMAE_API_KEY_FILE", str(tmp_path / "key"))
    with connect("http://127.0.0.1:1") as client:
        assert client._api_key is not None
        assert client._api_key.get_secret_value() == "pmae_key"


def test_pmae_up_hands_files_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its services run in another folder, and get their database and broker as values."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "url").write_text("sqlite:///mine.sqlite3\n")
    monkeypatch.setenv("PMAE_DATABASE_URL_FILE", "url")
    monkeypatch.setenv("PMAE_SECRET_KEY_FILE", "key")
    environment = UpSettings.load().environment("redis://h/0")
    assert environment["PMAE_DATABASE_URL"] == f"sqlite:///{tmp_path}/mine.sqlite3"
    assert environment["PMAE_DATABASE_URL_FILE"] == ""
    assert environment["PMAE_SECRET_KEY_FILE"] == f"{tmp_path}/key"


def test_an_environment_without_secrets() -> None:
    secrets = {name: "geheim" for each in SECRETS for name in (each, f"{each}_FILE")}
    odd = {"POSTGRES_PASSWORD": "geheim", "pmae_database_password": "geheim"}
    others = {"PMAE_HOME": "/state", "PATH": "/bin", "OMP_NUM_THREADS": "1"}
    assert without_secrets(secrets | odd | others) == others
