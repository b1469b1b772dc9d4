"""The pages without a browser."""

from __future__ import annotations

import re

import pytest

from dashboard.numbers import NumbersError
from dashboard.views import components
from dashboard.views.reconstructions import MOST_IMAGES, parse_images
from pmae.schema import ReconstructionRequest, Run, Spectrum
from pmae.spec import DatasetSpec, ExperimentSpec, MaskingSpec, resolve
from tests.dashboard.app import App, View
from tests.dashboard.fake_service import HOSTILE_NAME, FakeService


def test_the_list_shows_each_run(app: App, service: FakeService) -> None:
    view = app.open()
    view.check()
    for run in service.runs.values():
        assert f"#{run.number}" in view.text
        assert run.name in view.text
        assert f'href="run?run={run.id}"' in view.html
        assert f'data-open="{run.id}"' in view.html
    assert "1 worker, 1 busy" in view.text
    assert "epoch 23 of 60" in view.text
    assert "93.4 %" in view.text
    assert "Waits for a worker" in view.text


def test_names_are_text_and_never_markup(app: App, service: FakeService) -> None:
    run = service.of_state("cancelled")
    assert run.name == HOSTILE_NAME
    for page in (app.open(), app.open("run", run=run.id)):
        page.check()
        assert "<img src=x" not in page.html
        assert HOSTILE_NAME in page.text


def test_filters_are_asked_of_the_service_and_taken_from_the_address(
    app: App, service: FakeService
) -> None:
    view = app.open(state="failed", method="PMAE")
    view.check()
    assert "high learning rate" in view.text
    assert "quickstart" not in view.text
    assert any("state=failed" in r and "method=pmae" in r for r in service.requests)
    view.app.text_input(key="tag").set_value("nothing has this").run()
    assert any("No run is like that" in message for message in view.messages())


def test_an_empty_service_says_how_to_begin(app: App, service: FakeService) -> None:
    service.runs.clear()
    view = app.open()
    view.check()
    assert "preset=quickstart" in view.app.code[0].value


def test_pages_of_runs(app: App, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.views.runs.PAGE_SIZE", 4)
    view = app.open()
    assert "quickstart" not in view.text
    older = next(button for button in view.app.button if button.label == "Older")
    older.click().run()
    view.check()
    assert "quickstart" in view.text
    assert "ratio 0.3" not in view.text


def test_what_ails_the_service_is_said(app: App, service: FakeService) -> None:
    service.ready = False
    view = app.open()
    view.check()
    assert "broker: no answer from the broker" in view.messages()


def test_a_running_run(app: App, service: FakeService) -> None:
    run = service.of_state("running")
    view = app.open("run", run=run.id)
    view.check()
    assert "running" in view.text
    assert "epoch 23 of 60" in view.text
    assert "5,321 images/s" in view.text
    assert "left in this stage" in view.text
    assert len(view.charts) == 2
    curves = {layer["mark"]["type"] for layer in view.charts[0]["layer"]}
    assert curves == {"line", "point"}
    newest = f"{run.id}-{23 * 11:08d}"
    link = f"https://lab.example/api/v1/checkpoints/{newest}/files/model.safetensors"
    assert f'href="{link}"' in view.html
    assert f"reconstructions?run={run.id}&amp;checkpoint=newest" in view.html
    assert "epoch 23 of 60" in view.app.code[0].value
    spec = ExperimentSpec.model_validate_json(view.app.code[1].value)
    assert spec == run.spec == resolve(spec)


def test_a_finished_run_stands_beside_its_baselines(app: App, service: FakeService) -> None:
    view = app.open("run", run=service.of_state("succeeded").id)
    view.check()
    best, second, third = (view.text.index(t) for t in ("93.4 %", "91.1 %", "78.2 %"))
    assert view.text.index("trained encoder", best) < second < third
    assert "untrained encoder" in view.text
    assert not any(button.key == "cancel" for button in view.app.button)


def test_a_failed_run_says_why(app: App, service: FakeService) -> None:
    run = service.of_state("failed")
    view = app.open("run", run=run.id)
    view.check()
    assert run.reason
    assert run.reason in view.text


def test_a_queued_run_has_nothing_to_show_yet(app: App, service: FakeService) -> None:
    view = app.open("run", run=service.of_state("queued").id)
    view.check()
    assert view.charts == []
    assert "Waits for a worker" in view.text


def test_what_people_say_of_a_run_is_changed_on_its_page(app: App, service: FakeService) -> None:
    run = service.of_state("succeeded")
    view = app.open("run", run=run.id)
    view.check()
    (name,) = (field for field in view.app.text_input if field.label == "Name")
    (tags,) = (field for field in view.app.text_input if field.label == "Tags")
    (notes,) = (field for field in view.app.text_area if field.label == "Notes")
    (pinned,) = (field for field in view.app.toggle if field.label.startswith("Pinned"))
    assert (name.value, notes.value, pinned.value) == (run.name, run.notes, run.pinned)
    name.set_value("the good one")
    tags.set_value("paper, best ,")
    notes.set_value("<b>compare</b> with #2")
    pinned.set_value(True)
    (save,) = (button for button in view.app.button if button.label == "Save")
    save.click().run()
    view.check()
    changed = service.runs[run.id]
    assert (changed.name, changed.tags) == ("the good one", ["paper", "best"])
    assert (changed.notes, changed.pinned) == ("<b>compare</b> with #2", True)
    assert "the good one" in view.text
    assert "<b>compare" in view.text, "notes are text, not markup"
    assert "pinned" in view.text


def test_cancelling_takes_two_clicks(app: App, service: FakeService) -> None:
    run = service.of_state("running")
    view = app.open("run", run=run.id)
    assert not service.runs[run.id].cancel_requested
    view.app.button(key="cancel").click().run()
    view.check()
    assert service.runs[run.id].cancel_requested
    assert "cancelling" in view.text
    assert not any(button.key == "cancel" for button in view.app.button)


def test_a_run_that_ends_is_drawn_anew(app: App, service: FakeService) -> None:
    run = service.of_state("running")
    view = app.open("run", run=run.id)
    service.advance(run.id, 60)
    view.app.run()
    view.check()
    assert "93.4 %" in view.text


@pytest.mark.parametrize("page", ["run", "reconstructions", "components"])
def test_an_unknown_run_is_told(app: App, page: str) -> None:
    view = app.open(page, run="ffff")
    view.check()
    assert "there is no run ffff" in view.messages()


def test_a_run_page_without_a_run(app: App) -> None:
    view = app.open("run")
    view.check()
    assert "No run is chosen." in view.messages()


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
    checkpoint, request = asked_for(service)
    assert checkpoint == f"{run.id}-{253:08d}"
    assert isinstance(run.spec, ExperimentSpec)
    assert request.masking == run.spec.masking
    assert request.images.indices == list(range(8))
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
    assert (request.images.split, request.images.indices) == ("test", [3, 5, 6])
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
    assert (request.seed, request.images.indices) == (1, [11])
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
    assert (request.images.split, request.seed) == ("val", 0)
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


def test_components(app: App, service: FakeService) -> None:
    run = service.of_state("succeeded")
    view = app.open("components", run=run.id)
    view.check()
    assert len(view.charts) == 2
    assert view.html.count("data:image/png;base64,") == 48
    assert "8 × 8 × 1" in view.text
    asked = sum("/components/" in request for request in service.requests)
    view.app.run()
    assert sum("/components/" in request for request in service.requests) == asked


def test_a_truncated_basis_says_what_it_holds() -> None:
    spectrum = Spectrum(
        basis_digest="d",
        kind="dct",
        channels=3,
        resolution=224,
        num_components=3,
        explained_variance_ratio=[0.6, 0.2, 0.1],
    )
    text = re.sub("<[^>]+>", " ", components._facts(spectrum))
    for fact in ("Cosine transform", "3 of 150,528", "Hold of the variance", "90 %"):
        assert fact in text
    assert "For 50 % of the variance" in text
    assert "For 99 % of the variance" not in text


def test_components_before_the_basis_is_there(app: App, service: FakeService) -> None:
    view = app.open("components", run=service.of_state("queued").id)
    view.check()
    assert any("no basis" in message for message in view.messages())


@pytest.mark.parametrize("page", ["runs", "run", "reconstructions", "components"])
def test_a_service_that_is_down_is_said_without_a_traceback(
    app: App, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PMAE_API_URL", "http://127.0.0.1:9")
    view = app.open(page, run="a")
    view.check()
    (message,) = view.messages()
    assert "does not answer" in message
    assert "http://127.0.0.1:9" in message


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
    assert request.masking == MaskingSpec(strategy=strategy, ratio=0.45, scope="batch")
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
    assert not view.app.slider, "the object decides how much is masked"
    view.app.selectbox(key=f"recon_mode_{clevr.id}").set_value("partial").run()
    view.check()
    partial = MaskingSpec(strategy="segmentation", mode="partial", ratio=0.5, scope="image")
    assert asked_for(service)[1].masking == partial
    assert view.app.query_params["mode"] == "partial"
