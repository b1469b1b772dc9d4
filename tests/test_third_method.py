"""A method of another distribution trains, reconstructs and is evaluated, and nothing else changes.

The distribution in ``low_pass/`` is installed for the API and the worker alone. The client and the
pages, which run in this process, know of it what the service says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from dashboard.connection import connection
from dashboard.web import reader
from pmae.client import ApiError
from pmae.schema import ImageChoice, ReconstructionRequest, Run
from pmae.spec import EvaluationRequest, ExperimentSpec, KnnSpec, MaskingSpec, OptimizerSpec
from pmae.spec.methods import method_names
from tests.dashboard.app import App, Browser
from tests.stack import RunningStack, start_stack
from tests.support.commands import run_pmae
from tests.support.specs import TINY
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(900)]

SOURCE = Path(__file__).parent / "low_pass"
SPEC = TINY.model_copy(
    update={
        "name": "blurred",
        "method": "low_pass",
        "epochs": 15,
        "optimizer": OptimizerSpec(base_lr=5e-3),
    }
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The real service, in whose processes the distribution is installed."""
    folder = tmp_path_factory.mktemp("low_pass")
    source, target = folder / "source", folder / "installed"
    shutil.copytree(SOURCE, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    paths = [str(target), *filter(None, [os.environ.get("PYTHONPATH")])]
    running = start_stack(folder / "home", {"PYTHONPATH": os.pathsep.join(paths)})
    yield running
    running.stop()


@pytest.fixture(scope="module")
def run(service: RunningStack) -> Run:
    """A run of the method that has ended."""
    with service.client as client:
        return _ended(service, client.submit(SPEC).id)


def _ended(service: RunningStack, run_id: str) -> Run:
    with service.client as client:
        wait_until(
            lambda: client.run(run_id).state in ("succeeded", "failed", "cancelled"),
            f"the end of {run_id}",
            seconds=240,
        )
        run = client.run(run_id)
    assert run.state == "succeeded", run.error
    return run


def test_it_is_listed_and_another_name_is_refused(service: RunningStack) -> None:
    assert "low_pass" not in method_names(), "this process does not have it"
    with service.client as client:
        found = {method.name: method for method in client.methods()}
        assert set(found) == {"pmae", "mae", "low_pass"}
        assert (found["low_pass"].title, found["low_pass"].parts) == ("Low pass", "components")
        assert found["low_pass"].has_basis
        with pytest.raises(ApiError, match="expected one of pmae, low_pass, mae"):
            client.submit(SPEC.model_copy(update={"method": "high_pass"}))
        masking = MaskingSpec(strategy="top")
        with pytest.raises(ApiError, match="Low pass has no strategy top; expected one of random"):
            client.submit(SPEC.model_copy(update={"masking": masking}))


def test_it_trains_with_its_own_defaults(service: RunningStack, run: Run) -> None:
    assert isinstance(run.spec, ExperimentSpec)
    assert run.spec.basis is not None
    assert run.spec.basis.kind == "dct"
    masking = run.spec.masking
    assert (masking.ratio, masking.ratio_of, masking.count) == ((0.3, 0.7), "components", None)
    with service.client as client:
        series = {found.name: found.value for found in client.metrics(run.id).series}
        assert client.runs(kind="pretrain", limit=5).items[0].method == "low_pass"
    assert series["val_loss"][-1] < series["val_loss"][0], "under the same masks"
    assert {evaluation.key for evaluation in run.evaluations} == {
        "linear/encoder",
        "linear/raw_pixels",
    }


def test_it_reconstructs(service: RunningStack, run: Run) -> None:
    with service.client as client:
        kept = next(client.checkpoints(run.id, kind="kept"))
        request = ReconstructionRequest(images=ImageChoice(indices=[0, 1]), seed=3)
        found = client.reconstruct(kept.id, request)
        spectrum = client.spectrum(run.id)
    assert (found.method, found.parts, spectrum.kind) == ("low_pass", "components", "dct")
    assert found.num_total == 64
    assert found.ratio is not None
    assert found.num_masked == round(found.ratio * 64)
    assert found.masked_share < found.num_masked / 64, "high frequencies hold less variance"


def test_its_checkpoint_is_evaluated(service: RunningStack, run: Run) -> None:
    with service.client as client:
        kept = next(client.checkpoints(run.id, kind="kept"))
        submitted = client.evaluate(kept.id, EvaluationRequest(evaluations=(KnnSpec(k=(3,)),)))
    measured = _ended(service, submitted.id)
    assert [evaluation.protocol for evaluation in measured.evaluations] == ["knn"]


def test_the_command_line_shows_it(service: RunningStack, run: Run) -> None:
    shown = run_pmae(["show", run.id], {"PMAE_API_URL": service.api_url})
    assert shown.returncode == 0, shown.stderr
    assert "low_pass" in shown.stdout


@pytest.fixture
def app(service: RunningStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """The pages on the real service, in this process."""
    browser = Browser()
    monkeypatch.setattr(reader, "introduced", lambda: (browser.headers, browser.cookies))
    monkeypatch.setenv("PMAE_API_URL", service.api_url)
    st.cache_resource.clear()
    st.cache_data.clear()
    yield App(service.api_url)
    connection().close()
    st.cache_resource.clear()


def test_the_pages_show_it(app: App, run: Run) -> None:
    view = app.open("runs")
    view.check()
    assert "Low pass · digits" in view.text
    assert "Low pass" in view.app.segmented_control(key="method").options
    view = app.open("run", run=run.id)
    view.check()
    assert "Low pass · digits" in view.text
    view = app.open("components", run=run.id)
    view.check()
    assert "Cosine transform (DCT)" in view.text
    view = app.open("reconstructions", run=run.id)
    view.check()
    assert "of 64 components" in view.text
    choice = view.app.selectbox(key=f"recon_strategy_{run.id}")
    assert choice.options == ["Random components", "Chosen components"]
