"""Signing in with headless Chromium: once a browser, whatever is reloaded or started anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.live import LiveApi
from tests.dashboard.browser import Watched, watched_page
from tests.dashboard.locked import end_key, locked_service, make_key
from tests.dashboard.server import ServedDashboard, served_dashboard
from tests.support.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveApi]:
    with locked_service(tmp_path) as live:
        yield live


@pytest.fixture
def served(live: LiveApi, tmp_path: Path) -> Iterator[ServedDashboard]:
    with served_dashboard(tmp_path, {"PMAE_API_URL": live.url}) as served:
        yield served


@pytest.fixture
def reader(browser: Browser, served: ServedDashboard) -> Iterator[Watched]:
    with watched_page(browser, served.url) as watched:
        yield watched


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def is_asked_for_a_key(page: Page) -> None:
    expect(page.get_by_label("API key")).to_be_visible()


def test_once_a_browser(reader: Watched, live: LiveApi) -> None:
    run = live.add_run(name="secret run")
    page, path = reader.page, f"/run?run={run.id}"
    page.goto(reader.base_url + path)
    is_asked_for_a_key(page)
    expect(page.get_by_text("secret run")).to_have_count(0)
    sign_in(page, make_key(live, "ada", "submitter").key)
    heading = page.get_by_role("heading", name="secret run")
    expect(heading).to_be_visible()
    assert page.url == reader.base_url + path

    page.reload()
    expect(heading).to_be_visible()
    other = page.context.new_page()
    other.goto(reader.base_url + path)
    expect(other.get_by_role("heading", name="secret run")).to_be_visible()
    other.close()
    (cookie,) = [c for c in page.context.cookies() if c["name"].startswith("pmae_session")]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert "pmaes_" not in page.evaluate(
        "document.cookie + JSON.stringify([localStorage, sessionStorage])"
    )
    reader.check()


def test_a_restart_of_the_dashboard_signs_nobody_out(
    browser: Browser, live: LiveApi, tmp_path: Path
) -> None:
    run = live.add_run(name="secret run")
    port = free_port()
    settings = {"PMAE_API_URL": live.url}
    with ExitStack() as stack:
        with served_dashboard(tmp_path, settings, port=port) as first:
            reader = stack.enter_context(watched_page(browser, first.url))
            page = reader.page
            page.goto(f"{first.url}/run?run={run.id}")
            sign_in(page, make_key(live, "ada").key)
            heading = page.get_by_role("heading", name="secret run")
            expect(heading).to_be_visible()
        page.evaluate("window.mark = 'same document'")
        with served_dashboard(tmp_path, settings, port=port) as second:
            page.wait_for_selector("[data-testid=stApp][data-test-connection-state=CONNECTED]")
            expect(heading).to_be_visible()
            assert reader.is_same_document(), "the page that was open comes back by itself"
            page.goto(f"{second.url}/run?run={run.id}")
            expect(heading).to_be_visible()
            reader.faults.clear()  # the connection that was lost
            page.goto("about:blank")


def test_signing_out_ends_all_tabs(reader: Watched, live: LiveApi) -> None:
    run = live.add_run(name="secret run", state="running")
    page = reader.page
    page.goto(reader.base_url)
    sign_in(page, make_key(live, "ada").key)
    expect(page.get_by_role("link", name="secret run")).to_be_visible()
    other = page.context.new_page()
    other.goto(f"{reader.base_url}/run?run={run.id}")
    expect(other.get_by_role("heading", name="secret run")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    is_asked_for_a_key(page)
    is_asked_for_a_key(other)
    assert not [c for c in page.context.cookies() if c["name"].startswith("pmae_session")]
    page.go_back()
    is_asked_for_a_key(page)


def test_a_revoked_key_leads_an_open_page_to_the_question_and_back(
    reader: Watched, live: LiveApi
) -> None:
    run = live.add_run(name="secret run", state="running")
    page, path = reader.page, f"/run?run={run.id}"
    page.goto(reader.base_url + path)
    sign_in(page, make_key(live, "ada").key)
    heading = page.get_by_role("heading", name="secret run")
    expect(heading).to_be_visible()
    end_key(live, "ada")
    expect(page.get_by_role("alert")).to_contain_text("The key 'ada' was revoked")
    sign_in(page, make_key(live, "ada").key)
    expect(heading).to_be_visible()
    assert page.url == reader.base_url + path


def test_a_wrong_key_is_told_and_asked_for_again(reader: Watched, live: LiveApi) -> None:
    page = reader.page
    page.goto(f"{reader.base_url}/components")
    sign_in(page, "pmae_wrong")
    expect(page.get_by_role("alert")).to_contain_text("The key is unknown to this service")
    expect(page.get_by_label("API key")).to_have_value("")
    sign_in(page, make_key(live, "ada").key)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert page.url == f"{reader.base_url}/components"
    reader.faults = [fault for fault in reader.faults if "403" not in fault]


def test_localhost_and_127_0_0_1_each_ask_once(reader: Watched, live: LiveApi) -> None:
    page, key = reader.page, make_key(live, "ada").key
    named = reader.base_url.replace("127.0.0.1", "localhost")
    for _ in range(2):
        for address in (reader.base_url, named):
            page.goto(address)
            if page.get_by_label("API key").is_visible():
                sign_in(page, key)
            expect(page.get_by_role("button", name="Sign out")).to_be_visible()
            assert page.url.startswith(address)
    cookies = [c["domain"] for c in page.context.cookies() if c["name"].startswith("pmae_session")]
    assert sorted(cookies) == ["127.0.0.1", "localhost"]
    page.goto("about:blank")  # which asks for nothing any more
    reader.faults = [fault for fault in reader.faults if named not in fault]


def test_a_page_of_another_port_reaches_nothing(reader: Watched, live: LiveApi) -> None:
    """It is the same site to a browser, so the cookie would go along."""
    page = reader.page
    page.goto(reader.base_url)
    sign_in(page, make_key(live, "ada").key)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.goto(f"{live.url}/api/v1/livez")
    own = reader.base_url.replace("http:", "ws:")
    opened = page.evaluate(
        """address => new Promise(resolve => {
            const socket = new WebSocket(address + "/_stcore/stream", ["streamlit"]);
            socket.onopen = () => resolve("open");
            socket.onerror = () => resolve("refused");
        })""",
        own,
    )
    assert opened == "refused"
    with page.expect_response("**/auth/sign-out") as answered:
        page.evaluate(
            """address => {
                const form = document.createElement("form");
                form.method = "post";
                form.action = address + "/auth/sign-out";
                document.body.append(form);
                form.submit();
            }""",
            reader.base_url,
        )
    assert answered.value.status == 403
    assert "pmae_session" in answered.value.request.all_headers()["cookie"]
    page.wait_for_url("**/auth/sign-out")
    page.goto(reader.base_url)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    reader.faults.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sign_in_page_fits_a_telephone(
    browser: Browser, served: ServedDashboard, scheme: Literal["light", "dark"]
) -> None:
    with watched_page(browser, served.url, scheme) as watched:
        page = watched.page
        page.set_viewport_size({"width": 400, "height": 800})
        page.goto(served.url)
        is_asked_for_a_key(page)
        page.get_by_text("No key yet?").click()
        expect(page.get_by_text("docker compose run --rm api pmae keys create")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(245, 246, 248)", "dark": "rgb(15, 19, 25)"}[scheme]


def test_the_quickstart_is_one_click_away(reader: Watched, live: LiveApi) -> None:
    page = reader.page
    page.goto(reader.base_url)
    sign_in(page, make_key(live, "ada", "submitter").key)
    expect(page.get_by_text("No worker is up")).to_be_visible()
    page.get_by_role("button", name="Run the quickstart").click()
    expect(page.get_by_role("heading", name="#1 quickstart")).to_be_visible()
    expect(page.get_by_text("queued").first).to_be_visible()
