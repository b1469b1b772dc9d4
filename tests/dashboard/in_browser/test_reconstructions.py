"""The page of reconstructions in headless Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.dashboard.browser import Watched
from tests.dashboard.fake_service import FakeService

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


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
    refusal = watched.page.get_by_text("drawing.png: it is not an image of a supported")
    expect(refusal).to_be_visible()
    watched.page.get_by_role("button", name="Remove drawing.png").click()
    expect(refusal).to_be_hidden()
    expect(pictures).to_have_count(2 * 6)
    watched.page.get_by_role("radio", name="Data set").click()
    expect(pictures).to_have_count(8 * 6)
    watched.page.get_by_role("radio", name="Your own").click()
    expect(pictures).to_have_count(2 * 6)
    Image.new("RGB", (20, 20), (9, 9, 90)).save(tmp_path / "c.png")
    upload.set_input_files(tmp_path / "c.png")
    expect(pictures).to_have_count(3 * 6)
    watched.page.get_by_role("link", name="Components").click()
    expect(watched.page.get_by_text("For 90 % of the variance")).to_be_visible()
    watched.page.get_by_role("link", name="Reconstructions").click()
    watched.page.get_by_role("radio", name="Your own").click()
    expect(watched.page.get_by_text("From before: b.png, a very")).to_be_visible()
    watched.page.get_by_role("button", name="Remove these").click()
    expect(watched.page.get_by_text("as soon as there is a file")).to_be_visible()


def test_from_a_run_to_its_reconstructions(watched: Watched, service: FakeService) -> None:
    run = service.of_state("succeeded")
    watched.open(f"/run?run={run.id}")
    watched.mark()
    watched.page.get_by_role("row").filter(has_text="220").get_by_text("reconstruct").click()
    expect(watched.page.get_by_text("Step 220").first).to_be_visible()
    assert f"checkpoint={run.id}-{220:08d}" in watched.page.url
    watched.page.get_by_role("link", name="Components").click()
    expect(watched.page.get_by_text("For 90 % of the variance")).to_be_visible()
    assert watched.is_same_document()
