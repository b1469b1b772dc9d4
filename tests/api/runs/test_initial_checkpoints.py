"""Runs that start from another run's checkpoint: what is refused, and that it stays for them."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from api.checkpoints.in_use import hold_checkpoint, release_marks
from api.db import run_states
from api.db.tables import RunRow
from api.http.errors import NotFoundError
from api.storage.collector import find_garbage, remove_garbage
from pmae.client import ApiError, PmaeClient
from pmae.runs.removal import need_mark, remove_unless_marked
from pmae.schema import Run
from pmae.spec import ExperimentSpec, resolve
from tests.api.live import DIGITS, LiveApi, problem

FILES = {"model.safetensors": b"weights"}


@pytest.fixture
def source(api: LiveApi) -> RunRow:
    """A pretraining of digits that has ended, with a kept checkpoint at step 640."""
    run = api.add_run(ExperimentSpec.model_validate(DIGITS), state="succeeded")
    api.add_checkpoint(run, FILES)
    return run


def folder_of(api: LiveApi, run: RunRow, step: int = 640) -> Path:
    return api.run_dir(run.id).lease(1).checkpoints / f"step-{step:08d}"


def body(run: RunRow, step: int = 640, **fields: Any) -> dict[str, Any]:
    return DIGITS | {"init_from": f"{run.id}/step-{step:08d}"} | fields


def set_state(api: LiveApi, run_id: str, state: str) -> None:
    with api.sessions.begin() as session:
        session.execute(update(RunRow).where(RunRow.id == run_id).values(state=state))


def test_a_checkpoint_may_be_named_by_its_id(api: LiveApi, source: RunRow) -> None:
    run_id = api.submit(body(source) | {"init_from": f"{source.id}-00000640"})
    spec = api.client.get(f"/runs/{run_id}").json()["spec"]
    assert spec["init_from"] == f"{source.id}/step-00000640"


@pytest.mark.parametrize("only", [False, True], ids=["queued", "validate_only"])
def test_a_checkpoint_that_is_not_there_is_refused_at_the_field(
    api: LiveApi, source: RunRow, subtests: pytest.Subtests, only: bool
) -> None:
    shutil.rmtree(api.add_checkpoint(source, FILES, step=320))
    api.add_checkpoint(source, FILES, step=700, kind="latest")
    params = {"validate_only": only}
    for reference, code in (
        ("0123456789ab/step-00000640", "checkpoint_not_found"),
        (f"{source.id}/step-00000001", "checkpoint_not_found"),
        (f"{source.id}/step-00000320", "checkpoint_removed"),
    ):
        with subtests.test(reference=reference):
            answer = api.client.post("/runs", json=DIGITS | {"init_from": reference}, params=params)
            found = problem(answer, 422)
            assert (found.code, [field.pointer for field in found.errors]) == (code, ["/init_from"])
    rolling = api.client.post("/runs", json=body(source, 700), params=params)
    assert problem(rolling, 409).code == "rolling_checkpoint"
    fits = api.client.post("/runs", json=body(source), params=params)
    assert fits.status_code == (200 if only else 202)
    assert api.count_runs() == (1 if only else 2)
    marks = [path.name for path in folder_of(api, source).glob("needed-by-*")]
    assert marks == ([] if only else [f"needed-by-{fits.json()['id']}"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": {"embed_dim": 96}}, "model.embed_dim is 192 there and 96 here"),
        ({"model": {"decoder_depth": 1}}, "model.decoder_depth is 8 there and 1 here"),
        ({"model": {"mlp_ratio": 2}}, "the MLP's width is 768 there and 384 here"),
        ({"dataset": {"name": "digits", "resolution": 16}}, "dataset.resolution is 8 there"),
        ({"dataset": {"name": "cifar10"}}, "channels is 1 there and 3 here"),
    ],
)
def test_another_model_is_refused_at_the_field(
    api: LiveApi, source: RunRow, fields: dict[str, Any], words: str
) -> None:
    for only in (False, True):
        answer = api.client.post(
            "/runs", json=body(source, **fields), params={"validate_only": only}
        )
        (field,) = problem(answer, 422).errors
        assert field.pointer == "/init_from"
        assert words in field.message
    assert api.count_runs() == 1


def test_what_does_not_change_the_weights_shapes_is_let_through(
    api: LiveApi, source: RunRow
) -> None:
    api.submit(body(source, method="mae", model={"num_heads": 2}, epochs=3))


def test_channels_are_the_files_where_the_name_does_not_tell(api: LiveApi) -> None:
    grey = resolve(
        ExperimentSpec.model_validate(
            {"dataset": {"name": "folder:mine", "resolution": 32}, "model": {"patch_size": 4}}
        )
    )
    run = api.add_run(grey, state="succeeded")
    folder = api.add_checkpoint(run, FILES)
    fields: dict[str, Any] = {"dataset": {"name": "cifar10"}, "model": {"patch_size": 4}}
    api.submit(body(run, **fields))
    (folder / "config.json").write_text(json.dumps({"channels": 1}))
    (field,) = problem(api.client.post("/runs", json=body(run, **fields)), 422).errors
    assert "channels is 1 there and 3 here" in field.message


def test_the_client_says_which_field(api: LiveApi, source: RunRow) -> None:
    with PmaeClient(api.url) as client, pytest.raises(ApiError, match="/init_from") as refused:
        client.preview(body(source, 1))
    assert refused.value.problem.code == "checkpoint_not_found"


@pytest.mark.parametrize("state", ["queued", "running"])
def test_it_stays_while_a_run_needs_it(api: LiveApi, source: RunRow, state: str) -> None:
    run_id = api.submit(body(source))
    set_state(api, run_id, state)
    for path in (f"/checkpoints/{source.id}-00000640", f"/runs/{source.id}"):
        assert run_id in problem(api.client.delete(path), 409).detail
    assert not remove_unless_marked(folder_of(api, source)), "its run's retention"
    garbage = find_garbage(api.sessions, api.settings, min_age_seconds=0)
    remove_garbage(api.sessions, api.settings, garbage)
    assert (folder_of(api, source) / "manifest.json").is_file()
    set_state(api, run_id, "failed")
    assert api.client.delete(f"/checkpoints/{source.id}-00000640").status_code == 204
    assert not folder_of(api, source).exists()
    assert api.client.delete(f"/runs/{source.id}").status_code == 204


def test_a_run_whose_source_is_deleted_cannot_be_repeated_or_begun_again(
    api: LiveApi, source: RunRow
) -> None:
    run_id = api.submit(body(source))
    api.client.post(f"/runs/{run_id}/cancel")
    mark = need_mark(folder_of(api, source), run_id)
    with api.sessions.begin() as session:  # the run that trains is the one whose marks matter
        session.execute(update(RunRow).where(RunRow.id == source.id).values(state="running"))
    release_marks(api.sessions, api.settings.runs_dir)
    assert not mark.exists()
    resumed = Run.model_validate_json(api.client.post(f"/runs/{run_id}/resume").content)
    assert resumed.state == "queued"
    release_marks(api.sessions, api.settings.runs_dir)
    assert mark.exists(), "it needs it again"
    api.client.post(f"/runs/{run_id}/cancel")
    set_state(api, source.id, "succeeded")
    assert api.client.delete(f"/runs/{source.id}").status_code == 204
    for verb in ("resume", "rerun"):
        found = problem(api.client.post(f"/runs/{run_id}/{verb}"), 409)
        assert found.code == "checkpoint_not_found"
    with api.sessions() as session:
        row = session.get_one(RunRow, api_number(api, run_id))
    api.add_checkpoint(row, FILES)
    assert api.client.post(f"/runs/{run_id}/resume").status_code == 202, "it has its own now"
    assert problem(api.client.post(f"/runs/{run_id}/rerun"), 409).code == "checkpoint_not_found"


def api_number(api: LiveApi, run_id: str) -> int:
    return int(api.client.get(f"/runs/{run_id}").json()["number"])


def test_a_repetition_needs_it_too(api: LiveApi, source: RunRow) -> None:
    run_id = api.submit(body(source))
    again = api.client.post(f"/runs/{run_id}/rerun").json()["id"]
    set_state(api, run_id, "failed")
    assert again in problem(api.client.delete(f"/runs/{source.id}"), 409).detail
    assert need_mark(folder_of(api, source), again).exists()


def test_a_mark_of_an_evaluation_and_of_a_run_that_never_was(api: LiveApi, source: RunRow) -> None:
    spec = {"evaluations": [{"protocol": "knn"}]}
    answer = api.client.post(f"/checkpoints/{source.id}-00000640/evaluations", json=spec)
    needed = need_mark(folder_of(api, source), answer.json()["id"])
    assert needed.exists()
    never = need_mark(folder_of(api, source), "0123456789ab")
    never.touch()
    set_state(api, source.id, "running")
    release_marks(api.sessions, api.settings.runs_dir)
    assert (needed.exists(), never.exists()) == (True, False)


@pytest.mark.parametrize("what", ["run", "checkpoint"])
def test_a_deletion_waits_for_a_run_that_is_being_queued(
    api: LiveApi, source: RunRow, what: str
) -> None:
    answers: list[httpx.Response] = []
    path = f"/runs/{source.id}" if what == "run" else f"/checkpoints/{source.id}-00000640"
    thread = threading.Thread(target=lambda: answers.append(api.client.delete(path)))
    spec = resolve(ExperimentSpec.model_validate(body(source)))
    with api.sessions.begin() as session:
        held = hold_checkpoint(session, spec.init_from or "", api.settings.runs_dir)
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive(), "it waits"
        row = run_states.submit(session, spec=spec)
        held.mark(row.id)
    thread.join(timeout=60)
    assert row.id in problem(answers[0], 409).detail
    assert (folder_of(api, source) / "manifest.json").is_file()


def test_a_submission_waits_for_a_deletion_and_is_refused(api: LiveApi, source: RunRow) -> None:
    answers: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: answers.append(api.client.post("/runs", json=body(source)))
    )
    with api.sessions.begin() as session:
        run_states.mark_deleted(session, source.id)
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive(), "it waits"
    thread.join(timeout=60)
    (field,) = problem(answers[0], 422).errors
    assert field.pointer == "/init_from"


def test_many_submissions_and_deletions_at_once_leave_no_run_without_its_checkpoint(
    api: LiveApi,
) -> None:
    for step in range(4):
        run = api.add_run(ExperimentSpec.model_validate(DIGITS), state="succeeded")
        folder = api.add_checkpoint(run, FILES)
        with ThreadPoolExecutor(2) as pool:
            submitted = pool.submit(api.client.post, "/runs", json=body(run))
            deleted = pool.submit(api.client.delete, f"/checkpoints/{run.id}-00000640")
        codes = submitted.result().status_code, deleted.result().status_code
        assert codes in ((202, 409), (422, 204)), step
        assert folder.exists() == (codes == (202, 409))


def test_a_retention_that_is_faster_is_told(api: LiveApi, source: RunRow) -> None:
    with api.sessions.begin() as session:
        reference = f"{source.id}/step-00000640"
        held = hold_checkpoint(session, reference, api.settings.runs_dir)
        assert remove_unless_marked(folder_of(api, source))
        with pytest.raises(NotFoundError, match="removed"):
            held.mark("0123456789ab")
