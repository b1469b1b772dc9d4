"""Each page in headless Chromium, with the real service behind it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from pmae.schema import TERMINAL_STATES
from pmae.spec import CheckpointSpec
from tests.dashboard.browser import watched_page
from tests.stack import RunningStack
from tests.support.specs import TINY
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.mark.stack
def test_each_page_of_a_finished_run_of_the_real_service(
    browser: Browser, stack: RunningStack, tmp_path: Path
) -> None:
    with stack.client as client:
        run = client.submit(TINY.model_copy(update={"name": "browser test"}))
        wait_until(
            lambda: client.run(run.id).state in TERMINAL_STATES, "the run's end", seconds=180
        )
        assert client.run(run.id).state == "succeeded"
        # The service's first picture loads the library, which takes a while on a busy machine.
        assert client.reconstruct(next(client.checkpoints(run.id)).id).images
    with watched_page(browser, stack.dashboard_url) as watched:
        page = watched.page
        watched.open()
        page.get_by_role("link", name="browser test").first.click()
        expect(page.get_by_role("heading", name="browser test")).to_be_visible()
        expect(page.get_by_role("rowheader", name="trained encoder")).to_be_visible()
        expect(page.get_by_role("rowheader", name="raw pixels")).to_be_visible()
        charts = page.get_by_test_id("stVegaLiteChart").filter(visible=True)
        expect(charts).to_have_count(3)
        page.get_by_text("More curves").click()
        expect(charts).to_have_count(7)
        expect(page.get_by_role("tabpanel", name="Log")).to_contain_text("64 components")
        for tab, text in (
            ("History", "entered the stage pretrain"),
            ("Spec", '"decoder_embed_dim"'),
            ("Environment", "pytorch_lightning"),
        ):
            page.get_by_role("tab", name=tab).click()
            expect(page.get_by_role("tabpanel", name=tab)).to_contain_text(text)
        watched.check()
        with page.expect_download() as downloaded:
            page.get_by_role("link", name="config.json").first.click()
        assert downloaded.value.path().stat().st_size > 0
        watched.faults = [fault for fault in watched.faults if stack.api_url not in fault]
        page.get_by_role("link", name="reconstruct", exact=True).first.click()
        expect(page.locator(".pm-grid:not(.pm-film) img")).to_have_count(8 * 6)
        page.get_by_role("link", name="Components").click()
        expect(page.locator(".pm-gallery img").first).to_be_visible()


@pytest.mark.stack
def test_a_running_run_of_the_real_service_is_seen_live_and_cancelled(
    browser: Browser, stack: RunningStack
) -> None:
    endless = {
        "name": "endless",
        "epochs": 50_000,
        "checkpoint": CheckpointSpec(every_epochs=50_000, latest_seconds=0.5),
    }
    with stack.client as client, watched_page(browser, stack.dashboard_url) as watched:
        run = client.submit(TINY.model_copy(update=endless))
        page = watched.page
        watched.open(f"/reconstructions?run={run.id}")
        step = page.get_by_text(re.compile(r"Step [\d,]+"))
        expect(step).to_be_visible()
        first = step.inner_text()
        expect(step).not_to_have_text(first)
        watched.open(f"/run?run={run.id}")
        expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
        page.get_by_role("button", name="Cancel run").click()
        page.get_by_role("button", name="Yes, cancel it").click()
        expect(page.get_by_text("cancelled", exact=True).first).to_be_visible()
        assert client.run(run.id).state == "cancelled"
