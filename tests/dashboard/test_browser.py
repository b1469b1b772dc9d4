"""The dashboard in headless Chromium: with answers from memory, then with the real service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from pmae.schema import TERMINAL_STATES
from pmae.spec import (
    CheckpointSpec,
)
from tests.dashboard.app import SCRIPT
from tests.dashboard.browser import TIMEOUT_MS, Watched, chromium, watched_page
from tests.dashboard.fake_service import FakeService, serving
from tests.stack import RunningStack
from tests.support.ports import free_port
from tests.support.specs import TINY
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
expect.set_options(timeout=TIMEOUT_MS)


@dataclass(frozen=True)
class Dashboard:
    """A dashboard whose service listens, or not, on ``api_port``."""

    url: str
    api_port: int


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def dashboard(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Started as the supervisor does, from a folder that has nothing to do with the project."""
    folder = tmp_path_factory.mktemp("dashboard")
    port, api_port = free_port(), free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(SCRIPT)]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PMAE_API_URL": f"http://127.0.0.1:{api_port}"},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _healthy(url), "the dashboard's start")
        yield Dashboard(url, api_port)
    finally:
        process.terminate()
        process.wait(timeout=30)
    assert "Traceback" not in (folder / "log").read_text()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_stcore/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def service(dashboard: Dashboard) -> Iterator[FakeService]:
    service = FakeService()
    with serving(service, dashboard.api_port):
        yield service


@pytest.fixture
def watched(browser: Browser, dashboard: Dashboard) -> Iterator[Watched]:
    with watched_page(browser, dashboard.url) as watched:
        yield watched


def mark(watched: Watched) -> None:
    """Leave a mark that a reload would wipe out."""
    watched.page.evaluate("window.mark = 'same document'")


def is_same_document(watched: Watched) -> bool:
    return bool(watched.page.evaluate("window.mark === 'same document'"))


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
    mark(watched)
    page = watched.page
    page.get_by_role("row").filter(has_text="high learning rate").get_by_text("failed").click()
    expect(page.get_by_role("heading", name="#3 high learning rate")).to_be_visible()
    assert page.url.endswith(f"/run?run={service.of_state('failed').id}")
    assert page.title() == "#3 high learning rate · PMAE"
    page.go_back()
    expect(page.get_by_role("link", name="mae baseline")).to_be_visible()
    assert is_same_document(watched)


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
    mark(watched)
    expect(watched.page.get_by_text("epoch 23 of 60")).to_be_visible()
    service.advance(service.of_state("running").id, 4)
    expect(watched.page.get_by_text("epoch 27 of 60")).to_be_visible()
    assert is_same_document(watched)


def zoom_in(page: Page, chart: Locator, last: str) -> None:
    """Turn the wheel until the axis no longer ends at ``last``: a chart just drawn can miss it."""

    def zoomed() -> bool:
        chart.hover()
        page.mouse.wheel(0, -400)
        try:
            expect(axis_labels(chart).last).not_to_have_text(last, timeout=5000)
        except AssertionError:
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


def test_pictures_are_whole_multiples_and_unblurred(watched: Watched, service: FakeService) -> None:
    run = service.of_state("running")
    watched.open(f"/reconstructions?run={run.id}&images=0-3")
    pictures = watched.page.locator(".pm-grid:not(.pm-film) img")
    expect(pictures).to_have_count(4 * 6)
    sizes = pictures.evaluate_all(
        "all => all.map(i => [i.naturalWidth, i.getBoundingClientRect().width,"
        " getComputedStyle(i).imageRendering])"
    )
    assert {(natural, shown % natural, how) for natural, shown, how in sizes} == {
        (8, 0, "pixelated")
    }


def test_reconstructions_follow_the_run_and_a_link_brings_them_back(
    watched: Watched, service: FakeService
) -> None:
    run = service.of_state("running")
    watched.open(f"/reconstructions?run={run.id}")
    expect(watched.page.get_by_text("Step 253")).to_be_visible()
    service.advance(run.id, 2)
    expect(watched.page.get_by_text("Step 275")).to_be_visible()
    watched.page.get_by_role("button", name="Next").click()
    expect(watched.page).to_have_url(re.compile("seed=1"))
    images = watched.page.get_by_role("textbox", name="Images")
    images.fill("4, 9")
    images.press("Enter")
    expect(watched.page.locator(".pm-grid:not(.pm-film) img")).to_have_count(2 * 6)
    expect(watched.page).to_have_url(re.compile("images=4%2C%209|images=4%2C\\+9"))
    watched.page.reload()
    expect(watched.page.locator(".pm-grid:not(.pm-film) img")).to_have_count(2 * 6)
    expect(watched.page.get_by_role("spinbutton", name="Seed of the mask")).to_have_value("1")


def test_images_of_the_readers_own_stay_while_the_run_goes_on(
    watched: Watched, service: FakeService, tmp_path: Path
) -> None:
    for number, name in enumerate(["a very long name of a photograph of a cat.png", "b.png"]):
        Image.new("RGB", (30, 20), (90 * number, 120, 30)).save(tmp_path / name)
    (tmp_path / "drawing.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    run = service.of_state("running")
    watched.open(f"/reconstructions?run={run.id}")
    pictures = watched.page.locator(".pm-grid:not(.pm-film) img")
    expect(pictures).to_have_count(8 * 6)
    watched.page.get_by_role("radio", name="Your own").click()
    expect(watched.page.get_by_text("as soon as there is a file")).to_be_visible()
    upload = watched.page.locator("input[type=file]")
    upload.set_input_files([tmp_path / "b.png", *tmp_path.glob("a*.png")])
    expect(pictures).to_have_count(2 * 6)
    expect(watched.page.locator(".pm-file").first).to_have_text("b.png")
    service.advance(run.id, 2)
    expect(watched.page.get_by_text("Step 275")).to_be_visible()
    expect(pictures).to_have_count(2 * 6)
    expect(watched.page).not_to_have_url(re.compile("images="))
    upload.set_input_files(tmp_path / "drawing.png")
    expect(watched.page.get_by_text("drawing.png: it is no image that is read")).to_be_visible()
    watched.page.get_by_role("radio", name="Data set").click()
    expect(pictures).to_have_count(8 * 6)


def test_from_a_run_to_its_reconstructions(watched: Watched, service: FakeService) -> None:
    run = service.of_state("succeeded")
    watched.open(f"/run?run={run.id}")
    mark(watched)
    watched.page.get_by_role("row").filter(has_text="220").get_by_text("reconstruct").click()
    expect(watched.page.get_by_text("Step 220").first).to_be_visible()
    assert f"checkpoint={run.id}-{220:08d}" in watched.page.url
    watched.page.get_by_role("link", name="Components").click()
    expect(watched.page.get_by_text("For 90 % of the variance")).to_be_visible()
    assert is_same_document(watched)


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
    mark(watched)
    down = watched.page.get_by_text("does not answer")
    expect(down.first).to_be_visible()
    shown = watched.page.get_by_text(text).first
    for _ in range(2):
        with serving(service, dashboard.api_port):
            expect(shown).to_be_visible()
            expect(down).to_have_count(0)
        expect(down.first).to_be_visible()
    assert is_same_document(watched)


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
        assert client.reconstruct(client.checkpoints(run.id)[0].id).images
    with watched_page(browser, stack.dashboard_url) as watched:
        page = watched.page
        watched.open()
        page.get_by_role("link", name="browser test").first.click()
        expect(page.get_by_role("heading", name="browser test")).to_be_visible()
        expect(page.get_by_role("rowheader", name="trained encoder")).to_be_visible()
        expect(page.get_by_role("rowheader", name="raw pixels")).to_be_visible()
        expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(2)
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
