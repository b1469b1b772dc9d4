"""Runs that evaluate a checkpoint: asked for on their parent's page, and on pages of their own."""

from __future__ import annotations

import pytest

from pmae.client import PmaeClient
from pmae.spec import EvaluateSpec, KnnSpec
from tests.dashboard.app import App, View
from tests.dashboard.fake_service import FakeService


def _headings(view: View) -> list[str]:
    return [each.value for each in view.app.subheader]


def test_a_checkpoint_is_evaluated_from_the_page_of_its_run(app: App, service: FakeService) -> None:
    parent = service.of_state("succeeded")
    view = app.open("run", run=parent.id)
    view.check()
    assert "Evaluated later" not in _headings(view)
    view.app.selectbox(key="evaluate_protocol").set_value("knn").run()
    view.app.selectbox(key="evaluate_features").set_value("mean").run()
    view.app.selectbox(key="evaluate_layers").set_value("all").run()
    view.app.button(key="evaluate").click().run()
    run = list(service.runs.values())[-1]
    assert (run.kind, run.parent_id) == ("evaluate", parent.id)
    assert isinstance(run.spec, EvaluateSpec)
    (evaluation,) = run.spec.evaluations
    assert isinstance(evaluation, KnnSpec)
    assert (evaluation.features, evaluation.layers) == ("mean", "all")
    assert evaluation.dataset is None


def test_the_page_of_an_evaluation_has_its_results_and_no_curves(
    app: App, service: FakeService
) -> None:
    parent = service.of_state("succeeded")
    with PmaeClient(app.url) as client:
        run = client.evaluate(f"{parent.id}-00000660", {"evaluations": [{"protocol": "knn"}]})
    view = app.open("run", run=run.id)
    view.check()
    assert "Nothing is measured yet." in [each.value for each in view.app.caption]
    service.measure(run.id, 0.912)
    view = app.open("run", run=run.id)
    view.check()
    assert f"evaluates step 660 of run {parent.id}" in view.text
    assert "91.2 %" in view.text
    assert "k-NN" in view.text
    assert view.charts == []
    assert _headings(view) == ["Evaluations, test top-1"]
    assert "basis" not in view.text
    assert not any(f"{run.id}/metrics" in request for request in service.requests)

    above = app.open("run", run=parent.id)
    above.check()
    assert "Evaluated later" in _headings(above)
    assert f'data-open="{run.id}"' in above.html
    assert "k-NN 91.2 %" in above.text


def test_a_probes_epochs_are_drawn_and_its_best_one_is_named_as_what_it_is(
    app: App, service: FakeService
) -> None:
    parent = service.of_state("succeeded")
    with PmaeClient(app.url) as client:
        request = {"evaluations": [{"protocol": "linear"}]}
        run = client.evaluate(f"{parent.id}-00000660", request)
    service.measure(run.id, 0.8)
    for page in (run.id, parent.id):
        view = app.open("run", run=page)
        view.check()
        accuracy, loss = view.charts[-2:]
        assert (accuracy["title"]["text"], loss["title"]["text"]) == ("Accuracy", "Loss")
        assert any("chosen on test and overstates" in each.value for each in view.app.caption)


def test_a_long_list_says_how_many_it_shows(
    app: App, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.views.evaluations.MOST_SHOWN", 2)
    parent = service.of_state("succeeded")
    request = {"evaluations": [{"protocol": "knn"}]}
    with PmaeClient(app.url) as client:
        runs = [client.evaluate(f"{parent.id}-00000660", request).id for _ in range(3)]
    view = app.open("run", run=parent.id)
    view.check()
    assert [f'data-open="{run}"' in view.html for run in runs] == [False, True, True]
    assert any(each.value.startswith("The newest 2 of them") for each in view.app.caption)


def test_lists_and_choices_tell_evaluations_from_pretrainings(
    app: App, service: FakeService
) -> None:
    parent = service.of_state("succeeded")
    with PmaeClient(app.url) as client:
        run = client.evaluate(f"{parent.id}-00000660", {"evaluations": [{"protocol": "knn"}]})
    view = app.open()
    view.check()
    assert "evaluation · PMAE" in view.text
    only = app.open(kind="Evaluation")
    assert run.name in only.text
    assert "ratio 0.3" not in only.text
    pictures = app.open("reconstructions", run=run.id)
    pictures.check()
    assert pictures.app.selectbox(key="recon_run").value == parent.id
