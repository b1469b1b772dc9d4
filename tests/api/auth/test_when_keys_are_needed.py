"""When keys may be off, and what holds then."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.auth.errors import ForbiddenError
from api.auth.identify import Access
from api.auth.principal import ANYBODY
from api.db.session import make_engine, make_sessions
from api.settings import ApiSettings
from tests.api.live import DIGITS, LiveApi

POSTGRES = "postgresql+psycopg://pmae@db/pmae"


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({}, False),
        ({"api_host": "localhost"}, False),
        ({"api_host": "::1"}, False),
        ({"allowed_hosts": "127.0.0.1,localhost"}, False),
        ({"require_keys": True}, True),
        ({"api_host": "0.0.0.0"}, True),  # noqa: S104 - what is tested
        ({"api_host": "::"}, True),
        ({"api_host": "10.0.0.1"}, True),
        ({"api_host": "lab.example"}, True),
        ({"allowed_hosts": "lab.example"}, True),
        ({"database_url": POSTGRES}, True),
        ({"database_url": POSTGRES, "require_keys": False}, False),
    ],
)
def test_keys_are_off_only_where_nobody_else_comes(
    settings: dict[str, object], needed: bool
) -> None:
    assert ApiSettings.model_validate(settings).keys_required is needed


@pytest.mark.parametrize("where", [{"api_host": "0.0.0.0"}, {"allowed_hosts": "lab.example"}])  # noqa: S104
def test_off_is_refused_where_others_come(where: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="PMAE_REQUIRE_KEYS=false is refused"):
        ApiSettings.model_validate({"require_keys": False, **where})


def test_the_server_says_in_a_sentence_why_it_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PMAE_REQUIRE_KEYS", "false")
    monkeypatch.setenv("PMAE_API_HOST", "0.0.0.0")  # noqa: S104
    monkeypatch.setenv("PMAE_HOME", str(tmp_path))
    run = [sys.executable, "-m", "api"]
    ended = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("api: PMAE_REQUIRE_KEYS=false is refused")
    assert "Traceback" not in ended.stderr
    monkeypatch.setenv("PMAE_SECRET_KEY", "too-short-secret")
    ended = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
    assert "PMAE_SECRET_KEY" in ended.stderr
    assert "too-short-secret" not in ended.stderr


def test_without_keys_everybody_here_is_an_admin_and_owns_nothing(api: LiveApi) -> None:
    assert api.client.get("/identity").json() == {"name": None, "role": "admin"}
    run_id = api.submit()
    assert api.client.get(f"/runs/{run_id}").json()["owner"] is None
    history = api.client.get(f"/runs/{run_id}/history").json()["items"]
    assert [entry["actor"] for entry in history] == ["api"]
    sent = {"Authorization": "Bearer nonsense"}
    assert api.client.get("/runs", headers=sent).status_code == 200
    assert api.client.get("/audit").json() == {"items": [], "next_cursor": None}


def test_without_keys_pages_of_other_sites_cannot_write(api: LiveApi) -> None:
    for site in ("cross-site", "same-site"):
        response = api.client.post("/runs", json=DIGITS, headers={"Sec-Fetch-Site": site})
        assert (response.status_code, response.json()["code"]) == (403, "origin_not_allowed")
    assert api.count_runs() == 0
    for site in ("same-origin", "none"):
        response = api.client.post("/runs", json=DIGITS, headers={"Sec-Fetch-Site": site})
        assert response.status_code == 202


@pytest.mark.parametrize(
    ("server", "answered"),
    [
        (("127.0.0.1", 80), True),
        (("::1", 80), True),
        (("/run/api.sock", None), True),
        (None, True),
        (("10.0.0.5", 80), False),
        (("fe80::1", 80), False),
    ],
)
def test_without_keys_a_server_that_listens_to_the_network_answers_nobody_there(
    api_settings: ApiSettings, server: tuple[str, int | None] | None, answered: bool
) -> None:
    """Servers other than `python -m api` do not know of PMAE_API_HOST."""
    engine = make_engine(api_settings.sqlalchemy_url)
    access = Access(api_settings, make_sessions(engine))
    asking = access.identify({"type": "http", "server": server}, is_open=False)
    if answered:
        assert asyncio.run(asking) == ANYBODY
    else:
        with pytest.raises(ForbiddenError, match="PMAE_REQUIRE_KEYS=true"):
            asyncio.run(asking)
    engine.dispose()
