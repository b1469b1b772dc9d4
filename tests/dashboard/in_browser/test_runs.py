"""The list of runs, and the page of one, in headless Chromium."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from dashboard.connection import LIVE_SECONDS
from tests.dashboard.browser import Watched
from tests.dashboard.fake_service import FakeService
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def axis_labels(chart: Locator) -> Locator:
    """The labels of the x axis, from left to right."""
    return chart.locator("[aria-label^='X-axis'] .role-axis-label text")


def lines(chart: Locator) -> Locator:
    """The drawn lines: their paths change with the data."""
    return chart.locator(".mark-line path")


def test_a_click_on_a_row_opens_the_run_and_back_leads_back(
    watched: Watched, service: FakeService
) -> None:
    watched.open()
    watched.mark()
    page = watched.page
    page.get_by_role("row").filter(has_text="high learning rate").get_by_text("failed").click()
    expect(page.get_by_role("heading", name="#3 high learning rate")).to_be_visible()
    assert page.url.endswith(f"/run?run={service.of_state('failed').id}")
    assert page.title() == "#3 high learning rate · PMAE"
    page.go_back()
    expect(page.get_by_role("link", name="mae baseline")).to_be_visible()
    assert watched.is_same_document()


def test_a_runs_name_is_a_link_that_the_browser_can_open_elsewhere(
    watched: Watched, service: FakeService
) -> None:
    watched.open()
    link = watched.page.get_by_role("link", name="quickstart")
    with watched.page.context.expect_page() as opened:
        link.click(modifiers=["ControlOrMeta"])
    expect(opened.value.get_by_role("heading", name="#1 quickstart")).to_be_visible()


def test_a_name_never_becomes_markup(watched: Watched, service: FakeService) -> None:
    run = service.of_state("cancelled")
    for path in ("/", f"/run?run={run.id}"):
        watched.open(path)
        expect(
            watched.page.get_by_text(re.escape(run.name)[:8])
            .or_(watched.page.get_by_text("<img src=x").first)
            .first
        ).to_be_visible()
        expect(watched.page.locator("img[src=x]")).to_have_count(0)


def test_the_list_is_live(watched: Watched, service: FakeService) -> None:
    watched.open()
    watched.mark()
    expect(watched.page.get_by_text("epoch 23 of 60")).to_be_visible()
    service.advance(service.of_state("running").id, 4)
    expect(watched.page.get_by_text("epoch 27 of 60")).to_be_visible()
    assert watched.is_same_document()


def test_nothing_is_read_again_until_an_event_comes(watched: Watched, service: FakeService) -> None:
    run = service.of_state("running")
    watched.open(f"/run?run={run.id}")
    expect(watched.page.get_by_text("epoch 23 of 60 ·")).to_be_visible()
    wait_until(lambda: service.streams == 1, "the stream that the dashboard reads")

    def reads() -> int:
        return sum(f"/runs/{run.id}" in request for request in service.requests)

    def quiet(seconds: float) -> bool:
        before = reads()
        time.sleep(seconds)
        return reads() == before

    wait_until(lambda: quiet(2.5 * LIVE_SECONDS), "two refreshes in which nothing is read")
    before = reads()
    service.advance(run.id, 4)
    expect(watched.page.get_by_text("epoch 27 of 60 ·")).to_be_visible()
    assert reads() > before
    assert service.streams == 1, "one stream for all pages"


def zoom_in(page: Page, chart: Locator, last: str) -> None:
    """Turn the wheel until the axis no longer ends at ``last``: a chart just drawn can miss it."""

    def zoomed() -> bool:
        try:
            # Streamlit may give the chart's element to another chart while the page is built.
            chart.hover(timeout=5000)
            page.mouse.wheel(0, -400)
            expect(axis_labels(chart).last).not_to_have_text(last, timeout=5000)
        except (AssertionError, PlaywrightTimeoutError):
            return False
        return True

    wait_until(zoomed, "the zoom of the chart")


def test_a_run_is_live_and_keeps_the_zoom(watched: Watched, service: FakeService) -> None:
    run = service.of_state("running")
    watched.open(f"/run?run={run.id}")
    chart = watched.page.get_by_test_id("stVegaLiteChart").first
    expect(axis_labels(chart).last).to_have_text("24")
    zoom_in(watched.page, chart, "24")
    zoomed = axis_labels(chart).all_text_contents()
    for epochs, words in ((9, "epoch 32 of 60"), (2, "epoch 34 of 60")):
        drawn = lines(chart).last.get_attribute("d") or ""
        assert drawn
        service.advance(run.id, epochs)
        expect(watched.page.get_by_text(words).first).to_be_visible()
        expect(lines(chart).last).not_to_have_attribute("d", drawn)
        expect(axis_labels(chart)).to_have_text(zoomed)


def test_a_run_that_ends_shows_its_evaluations(watched: Watched, service: FakeService) -> None:
    run = service.of_state("running")
    watched.open(f"/run?run={run.id}")
    expect(watched.page.get_by_text("Measured when pretraining has ended.")).to_be_visible()
    service.advance(run.id, 60)
    expect(watched.page.get_by_text("untrained encoder")).to_be_visible()
    expect(watched.page.get_by_role("button", name="Cancel run")).to_have_count(0)
    link = watched.page.get_by_role("link", name="model.safetensors").first
    assert re.fullmatch(
        r"http://127\.0\.0\.1:\d+/api/v1/checkpoints/\w+-\d{8}/files/model\.safetensors",
        link.get_attribute("href") or "",
    )


def test_cancelling_asks_first_and_the_question_stays(
    watched: Watched, service: FakeService
) -> None:
    run = service.of_state("running")
    watched.open(f"/run?run={run.id}")
    watched.page.get_by_role("button", name="Cancel run").click()
    confirm = watched.page.get_by_role("button", name="Yes, cancel it")
    expect(confirm).to_be_visible()
    service.advance(run.id, 1)
    expect(watched.page.get_by_text("epoch 24 of 60").first).to_be_visible()
    expect(confirm).to_be_visible()
    confirm.click()
    expect(watched.page.get_by_text("cancelling")).to_be_visible()
    assert service.runs[run.id].cancel_requested
