"""Reconstructions of the reader's own images, in place of the data set's."""

from __future__ import annotations

import base64
import io

from PIL import Image

from pmae.schema import ImageChoice, ReconstructionRequest, UploadedImages
from pmae.schema.reconstructions import MOST_IMAGES
from tests.dashboard.app import App, View
from tests.dashboard.fake_pictures import Refusal
from tests.dashboard.fake_service import FakeService


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(buffer, "PNG")
    return buffer.getvalue()


def asked_for(service: FakeService) -> ReconstructionRequest:
    return ReconstructionRequest.model_validate_json(service.reconstructions[-1][1])


def own(view: View) -> View:
    view.app.segmented_control(key="recon_source").set_value("own").run()
    view.check()
    return view


def give(view: View, *files: tuple[str, bytes]) -> None:
    named = [(name, data, "image/png") for name, data in files]
    view.app.file_uploader(key="recon_files").set_value(named).run()
    view.check()


def test_files_take_the_place_of_the_data_sets_images(app: App, service: FakeService) -> None:
    run = service.of_state("succeeded")
    view = app.open("reconstructions", run=run.id, split="test", images="3", seed="4")
    own(view)
    assert any("as soon as there is a file" in message for message in view.messages())
    hostile = '<img src=x onerror="document.title=1">.png'
    give(view, ("cat.png", png()), (hostile, png("blue")))
    images = asked_for(service).images
    assert isinstance(images, UploadedImages)
    assert [base64.b64decode(text) for text in images.uploaded] == [png(), png("blue")]
    assert view.html.count("data:image/png;base64,") >= 2 * 6
    assert "cat.png" in view.text
    assert hostile not in view.html
    assert "file explained original" in view.text
    assert view.app.query_params["seed"] == "4"
    assert "images" not in view.app.query_params
    view.app.slider(key=f"recon_ratio_{run.id}").set_value(60).run()
    view.check()
    again = asked_for(service)
    assert again.images == images
    assert again.masking
    assert again.masking.ratio == 0.6
    view.app.segmented_control(key="recon_source").set_value("data set").run()
    view.check()
    assert asked_for(service).images == ImageChoice(split="test", indices=[3])


def test_files_outlast_a_look_at_the_data_sets_images(app: App, service: FakeService) -> None:
    view = own(app.open("reconstructions", run=service.of_state("succeeded").id))
    hostile = '<img src=x onerror="document.title=1">.png'
    give(view, ("cat.png", png()), (hostile, png("blue")))
    source(view, "data set")
    assert "cat.png" not in view.text
    source(view, "own")
    assert view.text.count("cat.png") == 2, "in the list and beside its pictures"
    assert f"From before: cat.png, {hostile}" in view.text
    assert hostile not in view.html
    give(view, ("dog.png", png("green")))
    assert uploads(service) == [png(), png("blue"), png("green")], "more are added"
    source(view, "data set")
    source(view, "own")
    assert f"From before: cat.png, {hostile}, dog.png" in view.text
    view.app.button(key="recon_files_forget").click().run()
    view.check()
    assert any("as soon as there is a file" in message for message in view.messages())
    source(view, "data set")
    source(view, "own")
    assert "From before" not in view.text


def source(view: View, which: str) -> None:
    view.app.segmented_control(key="recon_source").set_value(which).run()
    view.check()


def uploads(service: FakeService) -> list[bytes]:
    images = asked_for(service).images
    assert isinstance(images, UploadedImages)
    return [base64.b64decode(text) for text in images.uploaded]


def test_the_same_files_are_asked_for_once(app: App, service: FakeService) -> None:
    view = own(app.open("reconstructions", run=service.of_state("succeeded").id))
    give(view, ("cat.png", png()))
    asked = len(service.reconstructions)
    view.app.run()
    assert len(service.reconstructions) == asked
    give(view, ("cat.png", png("blue")))
    assert len(service.reconstructions) == asked + 1, "of the same name, and another image"


def test_what_cannot_be_used_is_told_by_the_files_name(app: App, service: FakeService) -> None:
    view = own(app.open("reconstructions", run=service.of_state("succeeded").id))
    give(view, ("cat.png", png()), ("page.png", b"<html>"), ("none.png", b""))
    first, second = view.messages()
    assert first.startswith(
        "page.png: it is not an image of a supported format; expected PNG, JPEG"
    )
    assert second.startswith("none.png: it is empty")
    give(view, *((f"{number}.png", png()) for number in range(MOST_IMAGES + 1)))
    assert f"At most {MOST_IMAGES} images are shown at once; here are 33" in view.messages()


def test_too_much_at_once_is_told(app: App, service: FakeService) -> None:
    def refuse(*_: object) -> None:
        raise Refusal(413, "body_too_large", "the body is longer than 9 bytes, the limit here")

    view = own(app.open("reconstructions", run=service.of_state("succeeded").id))
    service._pictures.reconstruct = refuse  # type: ignore[method-assign,assignment]
    give(view, ("cat.png", png("green")))
    told = [message for message in view.messages() if message.startswith("Together these files")]
    assert told
    assert told[0].endswith("Choose fewer.")
