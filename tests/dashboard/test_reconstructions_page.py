"""The page of reconstructions: what it asks the service for, shows, and writes into its address."""

from __future__ import annotations

import re

import pytest

from dashboard.controls.images import parse_images
from pmae.schema import ImageChoice, ReconstructionRequest, Run
from pmae.schema.number_ranges import NumbersError
from pmae.schema.reconstructions import MOST_IMAGES
from pmae.spec import DatasetSpec, ExperimentSpec, MaskingSpec, resolve
from tests.dashboard.app import App, View
from tests.dashboard.fake_service import FakeService


def asked_for(service: FakeService) -> tuple[str, ReconstructionRequest]:
    """The last reconstruction that was asked for."""
    path, body = service.reconstructions[-1]
    return path, ReconstructionRequest.model_validate_json(body)


def test_reconstructions_follow_a_running_run(app: App, service: FakeService) -> None:
    run = service.of_state("running")
    view = app.open("reconstructions", run=run.id)
    view.check()
    for panel in ("original", "visible", "target", "prediction", "full", "error"):
        assert panel in view.text
    frames = sum(epoch <= 23 for epoch in (0, 1, 2, 4, 8, 16, 32))
    assert view.html.count("data:image/png;base64,") == 8 * 6 + 3 + 2 * frames
    assert "Step 253" in view.text
    assert "of the variance masked" in view.text
    assert re.search(r"\d %\s+of it explained \(0 to 50 %: \d+\.\d %, 50 to 80 %", view.text)
    assert re.search(r"\bimage 7\s*-?\d+\.\d %", view.text)
    checkpoint, request = asked_for(service)
    assert checkpoint == f"{run.id}-{253:08d}"
    assert isinstance(run.spec, ExperimentSpec)
    assert request.masking == run.spec.masking
    assert request.images == ImageChoice(split="val", indices=list(range(8)))
    service.advance(run.id, 2)
    view.app.run()
    assert "Step 275" in view.text


def test_the_filmstrip_shows_the_chosen_image(app: App, service: FakeService) -> None:
    run = service.of_state("running")
    view = app.open("reconstructions", run=run.id)
    assert "As it learned" in [heading.value for heading in view.app.subheader]
    assert "epoch 16" in view.text
    image = next(field for field in view.app.number_input if "Image of" in field.label)
    image.set_value(3).run()
    view.check()
    assert f"GET /api/v1/runs/{run.id}/filmstrip?image=3&max_frames=20&format=json" in (
        service.requests
    )


def test_a_deep_link_is_taken_up_and_written_back(app: App, service: FakeService) -> None:
    run = service.of_state("succeeded")
    chosen = {
        "run": run.id,
        "checkpoint": f"{run.id}-{220:08d}",
        "split": "test",
        "images": "3, 5-6",
        "ratio": "45",
        "seed": "9",
    }
    view = app.open("reconstructions", **chosen)
    view.check()
    checkpoint, request = asked_for(service)
    assert checkpoint == chosen["checkpoint"]
    assert request.images == ImageChoice(split="test", indices=[3, 5, 6])
    assert request.seed == 9
    assert request.masking
    assert request.masking.ratio == 0.45
    assert view.app.query_params == chosen


def test_controls_change_what_is_asked_and_the_address(app: App, service: FakeService) -> None:
    run = service.of_state("succeeded")
    view = app.open("reconstructions", run=run.id)
    next(button for button in view.app.button if button.label == "Next").click().run()
    view.app.text_input(key="recon_images").set_value("11").run()
    view.app.slider(key=f"recon_ratio_{run.id}").set_value(60).run()
    view.check()
    _, request = asked_for(service)
    assert (request.seed, request.images) == (1, ImageChoice(split="val", indices=[11]))
    assert request.masking
    assert request.masking.ratio == 0.6
    assert view.app.query_params["seed"] == "1"
    assert view.app.query_params["ratio"] == "60"


@pytest.mark.parametrize(
    "wrong",
    [{"split": "nowhere"}, {"seed": "-1"}, {"seed": "x"}, {"ratio": "0"}, {"ratio": "200"}],
)
def test_a_wrong_address_falls_back(app: App, service: FakeService, wrong: dict[str, str]) -> None:
    run = service.of_state("succeeded")
    view = app.open("reconstructions", run=run.id, **wrong)
    view.check()
    _, request = asked_for(service)
    assert (request.images, request.seed) == (ImageChoice(split="val"), 0)
    assert isinstance(run.spec, ExperimentSpec)
    assert request.masking == run.spec.masking


def test_a_replaced_checkpoint_gives_way_to_the_newest(app: App, service: FakeService) -> None:
    run = service.of_state("running")
    view = app.open("reconstructions", run=run.id, checkpoint=f"{run.id}-{5:08d}")
    view.check()
    assert any("has been replaced" in message for message in view.messages())
    assert "Step 253" in view.text


def test_what_the_service_refuses_is_shown_in_place(app: App, service: FakeService) -> None:
    view = app.open("reconstructions", run=service.of_state("succeeded").id, images="5000")
    view.check()
    assert "valid images are 0 to 1796" in view.messages()


def test_a_run_without_a_checkpoint(app: App, service: FakeService) -> None:
    view = app.open("reconstructions", run=service.of_state("queued").id)
    view.check()
    assert "This run has no checkpoint yet." in view.messages()


def test_images_are_numbers_and_ranges() -> None:
    assert parse_images("0-3, 8 8 5") == [0, 1, 2, 3, 8, 5]
    assert len(parse_images(f"0-{MOST_IMAGES - 1}")) == MOST_IMAGES
    for wrong in ("", "a", "3-1", "-1", "1-", f"0-{MOST_IMAGES}", "0-999999999999"):
        with pytest.raises(NumbersError):
            parse_images(wrong)


def _choose(view: View, run: Run, option: str) -> None:
    view.app.selectbox(key=f"recon_strategy_{run.id}").set_value(option).run()
    view.check()


@pytest.mark.parametrize("strategy", ["top", "bottom", "block"])
def test_any_strategy_can_be_tried_and_a_link_brings_it_back(
    app: App, service: FakeService, strategy: str
) -> None:
    run = service.of_state("succeeded")
    view = app.open("reconstructions", run=run.id)
    _choose(view, run, strategy)
    view.app.slider(key=f"recon_ratio_{run.id}").set_value(45).run()
    _, request = asked_for(service)
    assert request.masking == MaskingSpec(
        strategy=strategy, ratio=0.45, ratio_of="variance", count="reference", scope="batch"
    )
    assert (view.app.query_params["strategy"], view.app.query_params["ratio"]) == (strategy, "45")
    again = app.open("reconstructions", **view.app.query_params)
    again.check()
    assert asked_for(service)[1] == request
    assert again.app.query_params == view.app.query_params


def test_components_can_be_chosen_by_their_numbers(app: App, service: FakeService) -> None:
    run = service.of_state("succeeded")
    view = app.open("reconstructions", run=run.id)
    _choose(view, run, "chosen")
    view.app.text_input(key=f"recon_masked_{run.id}").set_value("3, 10-12").run()
    view.check()
    _, request = asked_for(service)
    assert request.components == [3, (10, 12)]
    assert request.masking is None
    assert "4 of 64 components" in view.text
    points = view.charts[-1]["encoding"]
    assert points["x"]["title"] == "component, counted from 0"
    chosen = {"strategy": "chosen", "masked": "3, 10-12"}
    assert view.app.query_params.items() >= chosen.items()
    again = app.open("reconstructions", run=run.id, **chosen)
    again.check()
    assert asked_for(service)[1] == request


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3-1", "'3-1' runs backwards; write 1-3"),
        ("x", "'x' is neither a number nor a range such as 0-7"),
        (" , ", "Name at least one of the components, for example 0-9, 12"),
        ("64", "components: 64 is not among the 64"),
    ],
)
def test_a_wrong_list_of_components_is_said_so(
    app: App, service: FakeService, text: str, message: str
) -> None:
    run = service.of_state("succeeded")
    view = app.open("reconstructions", run=run.id, strategy="chosen", masked=text)
    view.check()
    assert message in view.messages()
    view.app.text_input(key=f"recon_masked_{run.id}").set_value("0").run()
    view.check()
    assert view.messages() == []


def test_patches_of_an_object_are_offered_where_there_are_objects(
    app: App, service: FakeService
) -> None:
    run = next(run for run in service.runs.values() if run.method == "mae" and run.started_at)
    view = app.open("reconstructions", run=run.id, strategy="top")
    view.check()
    choice = view.app.selectbox(key=f"recon_strategy_{run.id}")
    assert choice.options == ["Random patches", "Chosen patches"]
    assert choice.value == "random", "a strategy of the other method falls back"
    spec = resolve(
        ExperimentSpec(
            method="mae",
            dataset=DatasetSpec(name="clevr"),
            masking=MaskingSpec(strategy="segmentation"),
        )
    )
    clevr = run.model_copy(update={"id": "c" * 16, "dataset": "clevr", "spec": spec})
    service.runs[clevr.id] = clevr
    view = app.open("reconstructions", run=clevr.id)
    view.check()
    assert asked_for(service)[1].masking == spec.masking
    assert not view.app.slider, "the objects decide how much is masked"
    view.app.selectbox(key=f"recon_mode_{clevr.id}").set_value("partial").run()
    view.check()
    partial = MaskingSpec(
        strategy="segmentation", predict="background", mode="partial", ratio=0.5, scope="image"
    )
    assert asked_for(service)[1].masking == partial
    assert view.app.query_params["mode"] == "partial"
    assert "predict" not in view.app.query_params
    view.app.selectbox(key=f"recon_predict_{clevr.id}").set_value("object").run()
    view.check()
    hidden = partial.model_copy(update={"predict": "object"})
    assert asked_for(service)[1].masking == hidden
    assert view.app.query_params["predict"] == "object"


def test_a_ratio_counts_as_in_training_until_the_reader_chooses_otherwise(
    app: App, service: FakeService
) -> None:
    run = next(run for run in service.runs.values() if run.method == "pmae" and run.started_at)
    assert isinstance(run.spec, ExperimentSpec)
    for trained in (MaskingSpec(count="nearest"), MaskingSpec(ratio_of="components")):
        spec = resolve(run.spec.model_copy(update={"masking": trained}))
        service.runs[run.id] = run.model_copy(update={"spec": spec})
        view = app.open("reconstructions", run=run.id)
        view.check()
        assert asked_for(service)[1].masking == spec.masking
        assert "count" not in view.app.query_params
    view.app.selectbox(key=f"recon_count_{run.id}").set_value("reference").run()
    view.check()
    masking = asked_for(service)[1].masking
    assert masking
    assert (masking.ratio_of, masking.count) == ("variance", "reference")
    assert view.app.query_params["count"] == "reference"
    view = app.open("reconstructions", run=run.id, count="nearest", strategy="top")
    view.check()
    masking = asked_for(service)[1].masking
    assert masking
    assert (masking.strategy, masking.count) == ("top", "nearest")
