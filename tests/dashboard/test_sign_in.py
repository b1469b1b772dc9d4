"""The dashboard of a service that asks for keys: a key for each session, and links made with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import streamlit as st

from api.access.service import create_key, revoke_key
from api.db.migrate import upgrade
from api.settings import ApiSettings
from dashboard.service import connection
from pmae.schema_access import ApiKeyRequest, NewApiKey, Role
from tests.api.live import LiveApi, live_api
from tests.dashboard.app import App, View


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveApi]:
    """A real service that asks for keys, behind a dashboard that has none."""
    settings = ApiSettings(
        home=tmp_path / "home",
        require_keys=True,
        broker_url=f"redis+socket://{tmp_path}/no-broker.sock",
        broker_timeout_seconds=0.1,
    )
    upgrade(settings.sqlalchemy_url)
    with live_api(settings) as live:
        monkeypatch.setenv("PMAE_API_URL", live.url)
        monkeypatch.setenv("PMAE_API_KEY", make_key(live, "nobody-here").key)
        st.cache_resource.clear()
        st.cache_data.clear()
        yield live
        connection().close()
        st.cache_resource.clear()


def make_key(live: LiveApi, name: str, role: Role = "viewer") -> NewApiKey:
    with live.sessions.begin() as session:
        request = ApiKeyRequest(name=name, role=role)
        return create_key(session, request, created_by=None)


def sign_in(view: View, key: str) -> None:
    view.app.text_input[0].set_value(key)
    next(button for button in view.app.button if button.label == "Sign in").click().run()


def test_nothing_is_shown_before_a_key_that_holds(locked: LiveApi) -> None:
    run = locked.add_run(name="secret run")
    view = App(locked.url).open("run", run=run.id)
    view.check()
    assert [field.label for field in view.app.text_input] == ["API key"]
    assert view.app.text_input[0].proto.type == view.app.text_input[0].proto.PASSWORD
    assert "secret run" not in view.text
    assert view.messages() == []

    wrong = "pmae_000000000000_" + "A" * 43
    sign_in(view, wrong)
    view.check()
    (message,) = view.messages()
    assert "none of this service's" in message
    assert "api_key" not in view.app.session_state
    assert "secret run" not in view.text

    sign_in(view, "schlüssel")
    view.check()
    assert ["the API key is none" in told for told in view.messages()] == [True]

    sign_in(view, f" {make_key(locked, 'ada').key} ")
    view.check()
    assert "secret run" in view.text
    assert any("ada" in caption.value for caption in view.app.caption)
    assert view.app.query_params["run"] == run.id


def test_each_session_has_its_own_key_until_it_signs_out(locked: LiveApi) -> None:
    locked.add_run(name="secret run")
    first, second = App(locked.url).open(), App(locked.url).open()
    sign_in(first, make_key(locked, "ada").key)
    assert "secret run" in first.text
    second.app.run()
    assert [field.label for field in second.app.text_input] == ["API key"]
    next(button for button in first.app.button if button.label == "Sign out").click().run()
    first.check()
    assert [field.label for field in first.app.text_input] == ["API key"]
    assert "secret run" not in first.text


def test_a_key_that_is_revoked_meanwhile_is_asked_for_again(locked: LiveApi) -> None:
    locked.add_run(name="secret run")
    view = App(locked.url).open()
    sign_in(view, make_key(locked, "ada").key)
    with locked.sessions.begin() as session:
        revoke_key(session, "ada")
    view.app.run()
    view.check()
    assert "secret run" not in view.text
    (message,) = view.messages()
    assert "'ada' was revoked" in message


def test_download_links_are_signed_and_are_not_made_anew_at_each_refresh(locked: LiveApi) -> None:
    run = locked.add_run(state="succeeded")
    locked.add_checkpoint(run, {"model.safetensors": b"weights"})
    view = App(locked.url).open("run", run=run.id)
    key = make_key(locked, "ada")
    sign_in(view, key.key)
    view.check()
    (url,) = links(view)
    assert "signature=" in url
    assert f"signed_by={key.id}" in url
    assert key.key not in view.html
    assert httpx.get(url, trust_env=False).content == b"weights"
    view.app.run()
    assert links(view) == [url]


def links(view: View) -> list[str]:
    parts = view.html.replace("&amp;", "&").split('<a href="')[1:]
    return [part.partition('"')[0] for part in parts if "/files/" in part.partition('"')[0]]


@pytest.mark.parametrize(
    ("name", "role", "offered"),
    [
        ("ada", "viewer", set[str]()),
        ("ada", "submitter", {"Queue it", "Save", "Yes, cancel it"}),
        ("bob", "submitter", {"Queue it"}),
        ("bob", "admin", {"Queue it", "Save", "Yes, cancel it"}),
    ],
)
def test_a_key_is_offered_what_it_may_do(
    locked: LiveApi, name: str, role: Role, offered: set[str]
) -> None:
    run = locked.add_run(owner="ada")
    locked.add_checkpoint(run, {"encoder.safetensors": b"weights"})
    view = App(locked.url).open("run", run=run.id)
    sign_in(view, make_key(locked, name, role).key)
    view.check()
    assert {button.label for button in view.app.button} - {"Sign out"} == offered
