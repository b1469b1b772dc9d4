"""Settings from the environment: the database taken apart, secrets, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings
from sqlalchemy import URL, make_url

from api.db.settings import EXAMPLE_PASSWORD, ServiceSettings
from api.settings import ApiSettings
from dashboard.settings import DashboardSettings
from pmae.errors import SettingsError
from pmae.settings import load_settings
from worker.settings import WorkerSettings

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(user=TEXT, password=TEXT | st.just(r"@%/$#:? &=+\"'ü"))
def test_any_user_and_password_arrive(user: str, password: str) -> None:
    made = ServiceSettings(
        database_host="db",
        database_user=user,
        database_password=SecretStr(password),
    )
    expected = URL.create("postgresql+psycopg", user, password, "db", 5432, "pmae")
    assert make_url(made.sqlalchemy_url) == expected


@pytest.mark.parametrize("host", ["::1", "10.0.0.5", "db-1.lab_net.example"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    url = make_url(ServiceSettings(database_host=host, database_port=6000).sqlalchemy_url)
    assert (url.host, url.port, url.password) == (host, 6000, None)


@pytest.mark.parametrize("name", ["a/b", "a@b", "a?b", "a b"])
def test_names_that_would_change_the_address_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="database_host"):
        ServiceSettings(database_host=name)
    with pytest.raises(ValidationError, match="database_name"):
        ServiceSettings(database_host="db", database_name=name)


def test_an_empty_variable_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the compose file passes every setting that .env leaves open."""
    kinds: tuple[type[BaseSettings], ...] = (ApiSettings, WorkerSettings, DashboardSettings)
    for kind in kinds:
        plain = kind()
        for name in kind.model_fields:
            monkeypatch.setenv(f"PMAE_{name.upper()}", "")
            monkeypatch.setenv(f"PMAE_{name.upper()}_FILE", "")
        assert kind().model_dump() == plain.model_dump()


def test_one_database_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMAE_DATABASE_URL", "postgresql+psycopg://u:geheim@h/x")
    monkeypatch.setenv("PMAE_DATABASE_HOST", "db")
    with pytest.raises(SettingsError) as refused:
        load_settings(ServiceSettings)
    assert "PMAE_DATABASE_URL and PMAE_DATABASE_HOST" in str(refused.value)
    assert "geheim" not in str(refused.value)
    monkeypatch.delenv("PMAE_DATABASE_HOST")
    monkeypatch.delenv("PMAE_DATABASE_URL")
    monkeypatch.setenv("PMAE_DATABASE_PASSWORD", "geheim")
    with pytest.raises(SettingsError, match="PMAE_DATABASE_HOST") as refused:
        load_settings(ServiceSettings)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {"PMAE_DATABASE_HOST": "db", "PMAE_DATABASE_PASSWORD": EXAMPLE_PASSWORD},
        {"PMAE_DATABASE_URL": f"postgresql+psycopg://pmae:{EXAMPLE_PASSWORD}@postgres/pmae"},
        {"PMAE_DATABASE_URL": "postgresql+psycopg://pmae:change%2dme@postgres/pmae"},
    ],
)
@pytest.mark.parametrize("kind", [ApiSettings, WorkerSettings, ServiceSettings])
def test_the_examples_password_is_refused(
    given: dict[str, str], kind: type[ServiceSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=r"POSTGRES_PASSWORD in \.env.*openssl rand -hex 24"):
        load_settings(kind)


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim")
    monkeypatch.setenv("PMAE_DATABASE_HOST", "db")
    monkeypatch.setenv("PMAE_DATABASE_PASSWORD_FILE", str(tmp_path / "password"))
    settings = load_settings(ServiceSettings)
    assert make_url(settings.sqlalchemy_url).password == "geheim"
    assert "geheim" not in f"{settings!r} {settings.model_dump_json()}"
    with pytest.raises(ValidationError) as refused:
        ServiceSettings(
            database_url="postgresql://u:geheim@h/x", database_host="db", lease_seconds=1
        )
    assert "geheim" not in str(refused.value)
