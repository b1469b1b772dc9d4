"""Resuming, repeating and deleting runs, pinning checkpoints, and a disk without room."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import func, select

from api.db import run_states
from api.db.tables import CheckpointRow, EvaluationRow, MetricRow, RunEventRow, RunRow
from api.settings import ApiSettings
from api.storage.deletion import finish_deletions
from pmae.runs.layout import PINNED_FILE
from pmae.schema import Run
from tests.api.live import LiveApi, live_api
from tests.support.waiting import wait_until

FILES = {"model.safetensors": b"weights"}


def failed_run(api: LiveApi) -> str:
    run_id = api.submit()
    with api.sessions.begin() as session:
        claimed = run_states.claim(session, worker="w", lease_seconds=60)
    assert claimed is not None
    with api.sessions.begin() as session:
        error = {"code": "out_of_memory", "message": "too large", "log_tail": "the last line"}
        run_states.finish(session, claimed, state="failed", reason="too large", error=error)
    return run_id


def test_a_failed_run_says_why_and_can_be_resumed(api: LiveApi) -> None:
    run_id = failed_run(api)
    run = Run.model_validate_json(api.client.get(f"/runs/{run_id}").content)
    assert run.error is not None
    assert (run.error.code, run.error.log_tail) == ("out_of_memory", "the last line")
    response = api.client.post(f"/runs/{run_id}/resume")
    assert response.status_code == 202
    run = Run.model_validate_json(response.content)
    assert (run.state, run.error, run.attempt, run.lease_number) == ("queued", None, 0, 1)
    again = api.client.post(f"/runs/{run_id}/resume")
    assert (again.status_code, again.json()["code"]) == (409, "transition_refused")
    assert "failed and cancelled runs can" in again.json()["detail"]


def test_a_repetition_has_the_same_spec(api: LiveApi) -> None:
    run_id = api.submit({"dataset": {"name": "digits"}, "seed": 7}, priority=3)
    response = api.client.post(f"/runs/{run_id}/rerun")
    assert response.status_code == 202
    again = Run.model_validate_json(response.content)
    first = Run.model_validate_json(api.client.get(f"/runs/{run_id}").content)
    assert response.headers["location"] == f"/api/v1/runs/{again.id}"
    assert again.id != first.id
    assert (again.rerun_of, again.spec, again.priority) == (first.id, first.spec, 3)
    history = api.client.get(f"/runs/{again.id}/history").json()["items"]
    assert history[0]["message"] == f"submitted as a repetition of run {first.id}"


def test_deleting_hides_at_once_then_removes_files_then_rows(api: LiveApi) -> None:
    run_id = api.submit()
    refused = api.client.delete(f"/runs/{run_id}")
    assert refused.status_code == 409
    assert "cancel it first" in refused.json()["detail"]
    api.client.post(f"/runs/{run_id}/cancel")
    with api.sessions() as session:
        row = session.scalars(select(RunRow)).one()
    folder = api.add_checkpoint(row, FILES)
    api.add_metrics(row.number, "loss", [1.0, 2.0])
    assert api.client.delete(f"/runs/{run_id}").status_code == 204
    for path in ("", "/metrics", "/log", "/history", "/events", "/checkpoints"):
        assert api.client.get(f"/runs/{run_id}{path}").status_code == 404, path
    assert api.client.get(f"/checkpoints/{run_id}-00000640").status_code == 404
    assert api.client.get("/runs").json()["items"] == []
    assert api.client.delete(f"/runs/{run_id}").status_code == 404

    finish_deletions(api.sessions, api.settings.runs_dir)
    assert not folder.exists()
    assert not api.run_dir(run_id).path.exists()
    with api.sessions() as session:
        for table in (RunRow, MetricRow, CheckpointRow, EvaluationRow):
            assert session.scalar(select(func.count()).select_from(table)) == 0, table
        (left,) = session.scalars(select(RunEventRow))
        assert (left.type, left.key, left.run_number) == ("delete", run_id, None)


def test_a_deletion_that_broke_off_is_finished_by_the_service(api_settings: ApiSettings) -> None:
    slow = api_settings.model_copy(update={"reconcile_seconds": 600})
    with live_api(slow) as api:
        run_id = failed_run(api)
        with api.sessions() as session:
            api.add_checkpoint(session.scalars(select(RunRow)).one(), FILES)
        with api.sessions.begin() as session:
            run_states.mark_deleted(session, run_id)
        shutil.rmtree(api.run_dir(run_id).lease(1).path)  # killed half way
        assert api.run_dir(run_id).path.is_dir()
    with live_api(api_settings) as api:
        wait_until(lambda: api.count_runs() == 0, "the end of the deletion")
        assert not api.run_dir(run_id).path.exists()


def test_files_that_cannot_be_removed_keep_the_tombstone(
    api: LiveApi, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = failed_run(api)
    runs_dir = api.settings.runs_dir
    runs_dir.mkdir(parents=True, exist_ok=True)
    (runs_dir / run_id).write_text("a file where a folder should be")
    with api.sessions.begin() as session:
        run_states.mark_deleted(session, run_id)
    assert finish_deletions(api.sessions, runs_dir) == []
    assert "cannot be removed" in caplog.text
    (runs_dir / run_id).unlink()
    wait_until(
        lambda: bool(finish_deletions(api.sessions, runs_dir)) or api.count_runs() == 0, "its end"
    )


def test_a_pin_is_a_mark_beside_the_files(api: LiveApi) -> None:
    row = api.add_run()
    folder = api.add_checkpoint(row, FILES)
    path = f"/checkpoints/{row.id}-00000640"
    assert api.client.patch(path, json={"pinned": True}).json()["pinned"] is True
    assert (folder / PINNED_FILE).is_file()
    assert api.client.get(path).json()["pinned"] is True
    assert api.client.patch(path, json={"pinned": False}).json()["pinned"] is False
    assert not (folder / PINNED_FILE).exists()
    wrong = api.client.patch(path, json={"pined": True})
    assert wrong.status_code == 422
    assert {error["pointer"] for error in wrong.json()["errors"]} == {"/pined", "/pinned"}


def test_what_cannot_be_pinned(api: LiveApi) -> None:
    row = api.add_run()
    api.add_checkpoint(row, FILES, step=700, kind="latest")
    rolling = api.client.patch(f"/checkpoints/{row.id}-00000700", json={"pinned": True})
    assert rolling.status_code == 409
    shutil.rmtree(api.add_checkpoint(row, FILES))
    gone = api.client.patch(f"/checkpoints/{row.id}-00000640", json={"pinned": True})
    assert (gone.status_code, gone.json()["code"]) == (404, "checkpoint_removed")


def test_nothing_is_queued_when_the_disk_is_nearly_full(
    api_settings: ApiSettings, tmp_path: Path
) -> None:
    settings = api_settings.model_copy(update={"artifact_root": tmp_path / "artifacts"})
    with live_api(settings) as api:
        run_id = failed_run(api)
    with live_api(settings.model_copy(update={"min_free_disk_bytes": 2**62})) as api:
        for response in (
            api.client.post("/runs", json={"dataset": {"name": "digits"}}),
            api.client.post(f"/runs/{run_id}/resume"),
            api.client.post(f"/runs/{run_id}/rerun"),
        ):
            assert (response.status_code, response.json()["code"]) == (507, "storage_full")
            assert "delete runs" in response.json()["detail"]
        assert api.count_runs() == 1
        assert api.client.get(f"/runs/{run_id}").json()["state"] == "failed"
