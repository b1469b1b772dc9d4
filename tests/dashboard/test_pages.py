"""The pages without a browser."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

import pytest

from dashboard.charts.drawing import CURVE_CHARTS
from dashboard.views import components
from pmae.schema import Spectrum
from pmae.spec import ExperimentSpec, resolve
from tests.dashboard.app import App
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


def test_a_bound_that_is_none_is_said_and_nothing_is_listed(app: App) -> None:
    view = app.open(metric="loss=3")
    view.check()
    (told,) = view.messages()
    assert told.startswith("metric: 'loss=3' is not a bound; expected")
    assert "quickstart" not in view.text


def test_filters_are_asked_of_the_service_and_taken_from_the_address(
    app: App, service: FakeService
) -> None:
    view = app.open(state="failed", method="PMAE")
    view.check()
    assert "high learning rate" in view.text
    assert "quickstart" not in view.text
    assert any("state=failed" in r and "method=pmae" in r for r in service.requests)
    view.app.text_input(key="tag").set_value("nothing has this").run()
    assert any("No run matches the filters" in message for message in view.messages())


def test_runs_are_searched_ordered_and_bounded(app: App, service: FakeService) -> None:
    view = app.open(
        text="quick",
        order="Best loss, validation",
        metric="val_loss<0.5,top1>=0.9",
        owner="ada",
        since="2026-05-01",
        until="2026-05-31",
        pinned="true",
    )
    view.check()
    asked = [parse_qs(r.partition("?")[2]) for r in service.requests if "/runs?" in r][-1]
    assert asked == {
        "text": ["quick"],
        "sort": ["metric:val_loss"],
        "order": ["asc"],
        "metric": ["val_loss<0.5", "top1>=0.9"],
        "owner": ["ada"],
        "pinned": ["true"],
        "created_after": ["2026-05-01T00:00:00Z"],
        "created_before": ["2026-06-01T00:00:00Z"],
        "limit": ["50"],
    }


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


def test_of_very_many_checkpoints_the_newest_are_listed(
    app: App, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.views.run.MOST_CHECKPOINTS", 1)
    run = service.of_state("succeeded")
    view = app.open("run", run=run.id)
    view.check()
    newest, older = (f"checkpoint={run.id}-{epoch * 11:08d}" for epoch in (60, 40))
    assert newest in view.html
    assert older not in view.html
    assert any("The newest 1 of them" in caption.value for caption in view.app.caption)


def test_a_running_run(app: App, service: FakeService) -> None:
    run = service.of_state("running")
    view = app.open("run", run=run.id)
    view.check()
    assert "running" in view.text
    assert "epoch 23 of 60" in view.text
    assert "5,321 images/s" in view.text
    assert "left in this stage" in view.text
    titles = {chart["title"]["text"] for chart in view.charts}
    assert titles == {chart.title for chart in CURVE_CHARTS if chart.key != "label_probe"}
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
