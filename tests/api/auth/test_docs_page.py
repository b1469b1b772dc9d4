"""The documentation in headless Chromium, of a service that asks for keys."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.api.auth.conftest import LockedApi
from tests.dashboard.browser import TIMEOUT_MS, Watched, chromium, watched_page

pytestmark = pytest.mark.browser
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def watched(browser: Browser, locked: LockedApi) -> Iterator[Watched]:
    with watched_page(browser, locked.live.url) as watched:
        watched.page.goto(f"{locked.live.url}/api/v1/docs")
        yield watched


def operation(page: Page, tag: str, name: str) -> Locator:
    """The block of an operation, opened."""
    block = page.locator(f"#operations-{tag}-{name}")
    block.locator(".opblock-summary-control").click()
    expect(block.get_by_role("button", name="Execute")).to_be_visible()
    return block


def execute(block: Locator) -> Locator:
    """Send the request; its answer: status and body."""
    block.get_by_role("button", name="Execute").click()
    return block.locator(".live-responses-table .response")


def authorize(page: Page, key: str) -> None:
    """Type a key into the dialogue."""
    page.get_by_role("button", name="Authorize").first.click()
    dialogue = page.locator(".auth-container").filter(has_text="bearer")
    dialogue.get_by_role("textbox").fill(key)
    dialogue.get_by_role("button", name="Apply credentials").click()
    expect(dialogue.get_by_role("button", name="Remove authorization")).to_be_visible()
    page.get_by_role("button", name="Close").first.click()


def test_a_key_is_typed_in_and_operations_are_executed(watched: Watched, locked: LockedApi) -> None:
    page = watched.page
    identity = operation(page, "access", "get_identity")
    expect(execute(identity)).to_contain_text("key_required")
    assert all("401" in fault for fault in watched.faults)
    watched.faults.clear()

    authorize(page, locked.key("ada", "submitter").key)
    answer = execute(identity)
    expect(answer).to_contain_text('"name": "ada"')
    expect(answer.locator(".response-col_status")).to_contain_text("200")

    submit = operation(page, "runs", "submit_run")
    expect(execute(submit).locator(".response-col_status")).to_contain_text("202")
    with locked.client("reader") as reader:
        assert [run.owner for run in reader.runs().items] == ["ada"]


def test_the_key_is_forgotten_with_the_page(watched: Watched, locked: LockedApi) -> None:
    page = watched.page
    authorize(page, locked.key("ada").key)
    assert "pmae_" not in page.evaluate("JSON.stringify([localStorage, sessionStorage])")
    page.reload()
    expect(execute(operation(page, "access", "get_identity"))).to_contain_text("key_required")
    watched.faults.clear()


def test_the_page_may_run_and_reach_nothing_of_others(watched: Watched, locked: LockedApi) -> None:
    page = watched.page
    expect(page.get_by_role("button", name="Authorize").first).to_be_visible()
    watched.check()
    refused = page.evaluate(
        """() => new Promise(resolve => {
            document.addEventListener(
                "securitypolicyviolation", event => resolve(event.effectiveDirective)
            );
            const script = document.createElement("script");
            script.textContent = "document.title = 'taken over'";
            document.body.append(script);
        })"""
    )
    assert refused == "script-src-elem"
    assert page.title() == "PMAE REST API"
    assert all("Content Security Policy" in fault for fault in watched.faults)
    watched.faults.clear()


def test_its_files_are_kept_by_browsers_and_the_page_is_not(locked: LockedApi) -> None:
    page = httpx.get(f"{locked.live.url}/api/v1/docs", trust_env=False)
    assert page.headers["cache-control"] == "no-cache"
    assert "http" not in page.text, "it names no other machine"
    script = httpx.get(f"{locked.live.url}/api/v1/docs/swagger-ui-bundle.js", trust_env=False)
    assert "immutable" in script.headers["cache-control"]
    assert script.headers["content-type"].startswith("text/javascript")
