"""The pages of a service that asks for keys, to who is signed in and to who is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import streamlit as st
from sqlalchemy import select

from api.db.tables import RunRow
from dashboard.connection import connection
from pmae.client import PmaeClient
from pmae.schema.access import Role
from tests.api.live import LiveApi
from tests.dashboard.app import App, Browser, View
from tests.dashboard.locked import end_key, locked_service, make_key, sign_in_token


@pytest.fixture
def locked(
    tmp_path: Path, own_browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveApi]:
    """A real service that asks for keys, behind a dashboard that has none."""
    with locked_service(tmp_path) as live:
        monkeypatch.setenv("PMAE_API_URL", live.url)
        monkeypatch.setenv("PMAE_API_KEY", make_key(live, "nobody-here").key)
        st.cache_resource.clear()
        st.cache_data.clear()
        yield live
        connection().close()
        st.cache_resource.clear()


def leads_to_sign_in(view: View) -> bool:
    view.check()
    return 'location.replace("/auth/sign-in?next="' in view.html


@pytest.mark.parametrize("token", [None, f"pmaes_{'0' * 12}_{'A' * 43}", "a b", "schlüssel"])
def test_nothing_is_shown_to_a_stranger(
    locked: LiveApi, own_browser: Browser, token: str | None
) -> None:
    run = locked.add_run(name="secret run")
    own_browser.keep(token)
    view = App(locked.url).open("run", run=run.id)
    assert leads_to_sign_in(view)
    assert "secret run" not in view.text
    assert not view.app.button
    assert view.messages() == []
    assert view.app.query_params["run"] == run.id


def test_a_session_shows_the_page_of_the_deep_link(locked: LiveApi, own_browser: Browser) -> None:
    run = locked.add_run(name="secret run")
    own_browser.keep(sign_in_token(locked, "ada"))
    for _ in ("open", "reload"):
        view = App(locked.url).open("run", run=run.id)
        view.check()
        assert "secret run" in view.text
        assert any("ada" in caption.value for caption in view.app.caption)
        assert 'method="post" action="/auth/sign-out"' in view.html


def test_the_token_is_not_in_the_page_nor_shown_with_its_state(
    locked: LiveApi, own_browser: Browser
) -> None:
    token = sign_in_token(locked, "ada")
    own_browser.keep(token)
    view = App(locked.url).open()
    view.check()
    assert token not in view.html
    assert token not in repr(view.app.session_state)


def test_each_browser_has_its_own_session(locked: LiveApi, own_browser: Browser) -> None:
    locked.add_run(name="secret run")
    first, second = App(locked.url), App(locked.url)
    own_browser.keep(sign_in_token(locked, "ada"))
    view = first.open()
    assert "secret run" in view.text
    own_browser.keep(None)
    assert leads_to_sign_in(second.open())
    own_browser.keep(sign_in_token(locked, "bob", "submitter"))
    view.app.session_state["of_ada"] = "a picture"
    view.app.run()
    view.check()
    assert any("bob" in caption.value for caption in view.app.caption)
    assert "of_ada" not in view.app.session_state, "the reader before leaves nothing behind"


def test_a_key_that_is_revoked_ends_a_page_that_is_open(
    locked: LiveApi, own_browser: Browser
) -> None:
    locked.add_run(name="secret run")
    own_browser.keep(sign_in_token(locked, "ada"))
    view = App(locked.url).open()
    assert "secret run" in view.text
    end_key(locked, "ada")
    view.app.run()
    assert leads_to_sign_in(view)
    assert "secret run" not in view.text


def test_download_links_are_signed_and_are_not_made_anew_at_each_refresh(
    locked: LiveApi, own_browser: Browser
) -> None:
    run = locked.add_run(state="succeeded")
    locked.add_checkpoint(run, {"model.safetensors": b"weights"})
    key = make_key(locked, "ada")
    with PmaeClient(locked.url, api_key=key.key) as client:
        own_browser.keep(client.create_session().token)
    view = App(locked.url).open("run", run=run.id)
    view.check()
    (url,) = links(view)
    assert "signature=" in url
    assert f"signed_by={key.id}" in url
    assert httpx.get(url, trust_env=False).content == b"weights", "without a cookie"
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
    locked: LiveApi, own_browser: Browser, name: str, role: Role, offered: set[str]
) -> None:
    run = locked.add_run(owner="ada")
    locked.add_checkpoint(run, {"encoder.safetensors": b"weights"})
    own_browser.keep(sign_in_token(locked, name, role))
    view = App(locked.url).open("run", run=run.id)
    view.check()
    assert {button.label for button in view.app.button} == offered


def test_the_first_page_runs_the_quickstart(locked: LiveApi, own_browser: Browser) -> None:
    own_browser.keep(sign_in_token(locked, "ada", "submitter"))
    view = App(locked.url).open()
    view.check()
    assert any("No worker is up" in told for told in view.messages())
    (button,) = [found for found in view.app.button if found.label == "Run the quickstart"]
    button.click().run()
    view.check()
    with locked.sessions() as session:
        (run,) = session.scalars(select(RunRow)).all()
    assert (run.preset, run.owner) == ("quickstart", "ada")
    assert f"#{run.number}" in view.text, "its own page is shown"
    assert view.app.query_params["run"] == run.id


def test_the_first_page_tells_a_viewer_the_command(
    locked: LiveApi, own_browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PMAE_PUBLIC_API_URL", "https://lab.example")
    own_browser.keep(sign_in_token(locked, "ada"))
    view = App(locked.url).open()
    view.check()
    assert "Run the quickstart" not in {found.label for found in view.app.button}
    assert any("Your key is a viewer's" in told for told in view.messages())
    (command,) = [code.value for code in view.app.code]
    assert "export PMAE_API_URL=https://lab.example\n" in command
    assert "pmae submit quickstart\n" in command
    assert "Bearer $PMAE_API_KEY" in command
