"""What holds for every page: the colours, and how it comes back when the service does."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.dashboard.browser import Dashboard, Watched, watched_page
from tests.dashboard.fake_service import FakeService, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_it_follows_the_systems_colours(
    browser: Browser, dashboard: Dashboard, service: FakeService
) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        with watched_page(browser, dashboard.url, scheme) as watched:
            watched.open()
            expect(watched.page.get_by_role("link", name="quickstart")).to_be_visible()
            app = watched.page.get_by_test_id("stApp")
            backgrounds.append(app.evaluate("app => getComputedStyle(app).backgroundColor"))
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(15, 19, 25)"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "ratio 0.3"),
        ("/run?run={run}", "ratio 0.3"),
        ("/reconstructions?run={run}", "Step 253"),
    ],
)
def test_it_comes_back_by_itself_when_the_service_does(
    watched: Watched, dashboard: Dashboard, path: str, text: str
) -> None:
    """Down at the first sight, back, down while a page is open, and back again."""
    service = FakeService()
    run = service.of_state("running")
    watched.open(path.format(run=run.id))
    watched.mark()
    down = watched.page.get_by_text("does not answer")
    expect(down.first).to_be_visible()
    shown = watched.page.get_by_text(text).first
    for _ in range(2):
        with serving(service, dashboard.api_port):
            expect(shown).to_be_visible()
            expect(down).to_have_count(0)
            service.database_away = True
            expect(down.first).to_be_visible()
            service.database_away = False
            expect(shown).to_be_visible()
            expect(down).to_have_count(0)
        expect(down.first).to_be_visible()
    assert watched.is_same_document()
