"""Headless Chromium, and a page that watches for what no page may show."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

TIMEOUT_MS = 60_000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(_NAMES)})")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Dashboard:
    """A dashboard whose service listens, or not, on ``api_port``."""

    url: str
    api_port: int


@dataclass
class Watched:
    """A page of the dashboard, and what went wrong on it."""

    page: Page
    base_url: str
    faults: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> None:
        """Open a page. What is on it is for the caller to expect.

        A live page is never done: on a busy machine its next refresh begins before the last has
        ended, so there is no moment to wait for at which nothing runs.
        """
        self.page.goto(self.base_url + path)
        self.page.wait_for_selector("[data-testid=stApp][data-test-connection-state=CONNECTED]")

    def check(self) -> None:
        """No traceback, no error in the console, nothing asked of another machine."""
        expect(self.page.get_by_test_id("stException")).to_have_count(0)
        assert "Traceback" not in self.page.locator("body").inner_text()
        assert self.faults == []

    def mark(self) -> None:
        """Leave a mark that a reload would wipe out."""
        self.page.evaluate("window.mark = 'same document'")

    def is_same_document(self) -> bool:
        """Whether the mark is still there."""
        return bool(self.page.evaluate("window.mark === 'same document'"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text} ({message.location['url']})")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.base_url, "data:", "blob:")):
            self.faults.append(f"asked for {request.url}")


@contextmanager
def watched_page(
    browser: Browser, base_url: str, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Watched]:
    """A page in a new session, checked when the block ends."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(TIMEOUT_MS)
    try:
        watched = Watched(context.new_page(), base_url)
        watched.page.on("console", watched._console)
        watched.page.on("request", watched._request)
        watched.page.on("pageerror", lambda error: watched.faults.append(f"script: {error}"))
        yield watched
        watched.check()
    finally:
        context.close()
